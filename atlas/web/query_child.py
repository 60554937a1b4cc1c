"""The process that runs one query of a reader: `python -m atlas.web.query_child`.

Takes {path, query, limit, seconds} as JSON on standard input and answers on standard output with
{columns, rows, truncated, seconds} or {error}. The atlas is open read-only, its configuration
locked: no file, no network, no extension, no setting can be reached. Of statements only one SELECT
or EXPLAIN is run; that alone would not do, as `with … insert` is a SELECT too. Memory, processor
time and files written are limited by the operating system where it can (not on Windows, where the
server's clock is what remains).
"""

from __future__ import annotations

import json
import re
import sys
import time
from contextlib import suppress
from typing import Any

import atlas
from atlas.errors import AtlasError, QueryError
from atlas.rows import Rows, plain, run, to_json
from atlas.store import told

_MOST_MEMORY = 3 << 30
"""Address space in bytes, DuckDB's and the numeric libraries' code and stacks included."""
_BUFFERS = "1GB"
_MOST_CHARACTERS = 10_000
"""Of one value."""
_MOST_ANSWER = 8 << 20
"""Characters of all rows together."""
_EXACT = 1 << 53
"""Whole numbers from here on are not exact in JavaScript."""

_SETTINGS = (
    "set temp_directory = ''",
    "set enable_external_access = false",
    "set allow_community_extensions = false",
    "set enable_progress_bar = false",
    f"set memory_limit = '{_BUFFERS}'",
    "set threads = 2",
    "set max_execution_time = {milliseconds}",
    "set lock_configuration = true",
)

_KINDS = ("SELECT", "EXPLAIN")

_ALLOCATION = re.compile(r"bad allocation|bad_alloc|failed to allocate|out of memory", re.I)
_TOO_MUCH = "The query needs more memory than it may use; ask for less at a time."


def main() -> None:
    """Answer the one request on standard input."""
    asked = json.load(sys.stdin)
    _limit(asked["seconds"])
    sys.stdout.write(to_json(_answer(asked)))


def _limit(seconds: float) -> None:
    try:
        import resource
    except ImportError:
        return
    limits = {
        "RLIMIT_AS": _MOST_MEMORY,
        "RLIMIT_CPU": int(2 * seconds) + 10,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_CORE": 0,
    }
    for name, most in limits.items():
        kind = getattr(resource, name, None)
        with suppress(ValueError, OSError):  # a lower limit holds already
            if kind is not None:
                resource.setrlimit(kind, (most, most))


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    try:
        with atlas.open(asked["path"]) as opened:
            connection = opened.cursor()
            for setting in _SETTINGS:
                connection.execute(setting.format(milliseconds=int(1000 * asked["seconds"])))
            return _select(connection, asked["query"], asked["limit"])
    except AtlasError as error:
        return {"error": _TOO_MUCH if _ALLOCATION.search(str(error)) else str(error)}
    except KeyboardInterrupt:  # how DuckDB's interrupt arrives here
        return {"error": f"The query took longer than {asked['seconds']:.0f} seconds."}
    except MemoryError:
        return {"error": _TOO_MUCH}


def _select(connection: Any, query: str, limit: int) -> dict[str, Any]:
    with told():
        statements = connection.extract_statements(query)
    if not statements:
        raise QueryError("The query is empty; give one such as 'from sae_cards'.")
    if len(statements) > 1:
        raise QueryError(f"These are {len(statements)} statements; give one at a time.")
    kind = statements[0].type.name
    if kind not in _KINDS:
        raise QueryError(f"Only queries can be run here, not a statement of type {kind}.")
    started = time.perf_counter()
    rows = run(connection, query)
    if rows is None:
        raise QueryError("The statement returns no rows; give a query.")
    taken, truncated = _take(rows, limit)
    return {
        "columns": [{"name": column.name, "type": column.type} for column in rows.columns],
        "rows": taken,
        "truncated": truncated,
        "seconds": round(time.perf_counter() - started, 4),
    }


def _take(rows: Rows, limit: int) -> tuple[list[list[Any]], bool]:
    """The first rows, and whether there are more or values were cut."""
    taken: list[list[Any]] = []
    room = _MOST_ANSWER
    cut = False
    for batch in rows:
        for row in batch:
            if len(taken) == limit or room <= 0:
                return taken, True
            cells = [_cell(value) for value in row]
            cut = cut or any(was_cut for _, was_cut in cells)
            taken.append([cell for cell, _ in cells])
            room -= sum(len(str(cell)) for cell, _ in cells)
    return taken, cut


def _cell(value: Any) -> tuple[Any, bool]:
    """The value as JSON has it, and whether it was cut."""
    cell = plain(value)
    if isinstance(cell, str) and len(cell) > _MOST_CHARACTERS:
        return cell[:_MOST_CHARACTERS] + "…", True
    if isinstance(cell, int) and not isinstance(cell, bool) and abs(cell) >= _EXACT:
        return str(cell), False
    if isinstance(cell, list | dict):
        text = to_json(cell)
        if len(text) > _MOST_CHARACTERS:
            return text[:_MOST_CHARACTERS] + "…", True
    return cell, False


if __name__ == "__main__":
    main()
