"""The content of an atlas as something that can be compared: every row of every table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atlas.store import Atlas

NOT_COMPARED = {"runs": ("started_at", "ended_at")}
"""The only columns that two equal runs may differ in."""


def contents(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Table → its rows in a fixed order; floats as their exact bits, since NaN ≠ NaN."""
    with Atlas.open(path) as atlas:
        tables = [
            name
            for (name,) in atlas.rows(
                "select table_name from duckdb_tables() where not internal order by all"
            )
        ]
        return {
            name: [
                tuple(repr(value) for value in row)
                for row in atlas.rows(
                    f"select * {_without(NOT_COMPARED.get(name, ()))} from {name} order by all"
                )
            ]
            for name in tables
        }


def _without(columns: tuple[str, ...]) -> str:
    return f"exclude ({', '.join(columns)})" if columns else ""


def assert_same(one: dict[str, list[Any]], other: dict[str, list[Any]]) -> None:
    """Fail with the table's name and the first differing row, not with a wall of rows."""
    assert one.keys() == other.keys()
    for table, rows in one.items():
        assert len(rows) == len(other[table]), f"{table}: {len(rows)} rows ≠ {len(other[table])}"
        for a, b in zip(rows, other[table], strict=True):
            assert a == b, f"{table}: {str(a)[:300]} ≠ {str(b)[:300]}"
