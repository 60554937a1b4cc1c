"""`atlas check`: whether an atlas is sound."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from atlas.cli._options import (
    AtlasCommand,
    atlas_argument,
    format_option,
    open_atlas,
    wait_option,
)
from atlas.cli._output import from_dicts, write_rows
from atlas.cli._progress import Reporter

_TYPES = {
    "name": "VARCHAR",
    "passed": "BOOLEAN",
    "violations": "BIGINT",
    "summary": "VARCHAR",
    "examples": "VARCHAR[]",
    "error": "VARCHAR",
}


@click.command(
    cls=AtlasCommand, examples=["atlas check demo.atlas", "atlas check demo.atlas -f json"]
)
@atlas_argument
@format_option("table", "csv", "json", "ndjson")
@wait_option
def command(atlas_path: Path, kind: str | None, wait: float) -> None:
    """Check that what an atlas holds is consistent.

    Runs every truth of sql/checks; the exit code is 1 if one of them does not hold.
    """
    from atlas.checks import run_checks
    from atlas.scripts import check_files

    reporter = Reporter(keep=False)
    with (
        open_atlas(atlas_path, wait) as atlas,
        reporter.task("checks", len(check_files()), "checks") as task,
    ):
        found = []
        for one in run_checks(atlas):
            found.append(one)
            task.advance()
        current = atlas.is_current()
    rows = [{**dataclasses.asdict(one), "passed": one.passed} for one in found]
    write_rows(from_dicts(rows, _TYPES), kind)
    failed = [one.name for one in found if not one.passed]
    if failed:
        raise click.ClickException(
            f"{len(failed)} of {len(found)} checks of {atlas_path} failed: {', '.join(failed)}; "
            + (
                "make the atlas again or report it."
                if current
                else "an earlier version made it, and any command that writes, such as "
                f"`atlas link {atlas_path}`, brings it up to date."
            )
        )
    reporter.notice(f"All {len(found)} checks hold.")
