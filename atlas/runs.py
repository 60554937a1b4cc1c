"""The table `runs`: one row for each writing command, with all that its result came from."""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from atlas.store import Atlas


def add_run(
    atlas: Atlas,
    command: str,
    plan: str,
    config: Mapping[str, Any],
    circumstances: Mapping[str, Any],
    started_at: datetime.datetime,
    *,
    seed: int | None = None,
    status: str = "done",
) -> int:
    """Add a row that ends now; its run_id.

    plan: sha256 of all that decides the result, by which a command given again finds it.
    config: the options as resolved; circumstances: `made_with`, and a device where one matters;
        both are kept as JSON.
    """
    ((run_id,),) = atlas.rows("select coalesce(max(run_id) + 1, 0) from runs")
    row = {
        "run_id": run_id,
        "command": command,
        "plan": plan,
        "config": json.dumps(config),
        "circumstances": json.dumps(circumstances),
        "seed": seed,
        "started_at": started_at,
        "ended_at": now(),
        "status": status,
    }
    values = ", ".join(f"${column} as {column}" for column in row)
    atlas.execute(f"insert into runs by name select {values}", row)
    return int(run_id)


def end_run(atlas: Atlas, run_id: int, status: str = "done") -> None:
    """Let a run end now: it has come further, or to its end."""
    atlas.execute(
        "update runs set status = ?, ended_at = ? where run_id = ?", [status, now(), run_id]
    )


def made_with(*packages: str) -> dict[str, str]:
    """Versions of Python, of this package and of others that a result may depend on."""
    found = {"python": platform.python_version()}
    return found | {one: version(one) for one in (*packages, "duckdb", "feature-atlas")}


def now() -> datetime.datetime:
    """The time in UTC, as `runs` has it."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
