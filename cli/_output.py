"""Writes rows to stdout: a table for people, csv, json, ndjson or parquet for programs."""

from __future__ import annotations

import io
import itertools
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from atlas.cli._progress import Reporter
from atlas.cli._text import safe
from atlas.rows import Column, Rows, run, to_json, write_parquet, write_text
from atlas.store import Parameters

if TYPE_CHECKING:
    import duckdb
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

ROW_FORMATS = ("table", "csv", "json", "ndjson", "parquet")
SCREEN_ROWS = 100
"""Rows of a table on a terminal; a pipe and the other formats get all of them."""
_SCREEN_ITEMS = 6
_ENOUGH = 24
"""Characters that a column gets at least, unless its cells need fewer."""
_GAP = 3
_NUMBERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE"}


def write_query(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    kind: str | None,
    parameters: Parameters = None,
) -> None:
    """Run a query and write its rows in the format `kind`; see `write_rows`."""
    if kind == "parquet":
        _write_parquet(connection, query, parameters)
        return
    rows = run(connection, query, parameters, _query_progress())
    if rows is not None:
        write_rows(rows, kind)


def write_rows(rows: Rows, kind: str | None) -> None:
    """Write rows as csv, json, ndjson or table; None means table on a terminal, csv in a pipe."""
    kind = kind or ("table" if sys.stdout.isatty() else "csv")
    try:
        if kind == "table":
            _write_table(rows)
            return
        stream = io.TextIOWrapper(binary_stdout(), encoding="utf-8", newline="", write_through=True)
        try:
            write_text(rows, stream, kind)
        finally:
            stream.detach()
    finally:
        rows.close()


def from_dicts(rows: Sequence[dict[str, Any]], types: dict[str, str]) -> Rows:
    """Rows that no query made; `types` names every column and its DuckDB type."""
    columns = [Column(name, kind) for name, kind in types.items()]
    return Rows(columns, [[tuple(row[name] for name in types) for row in rows]])


def write_object(value: dict[str, Any]) -> None:
    """Write one JSON object on a line: `-f json` and `-f ndjson` of what is no list of rows."""
    binary_stdout().write((to_json(value) + "\n").encode())


def binary_stdout() -> BinaryIO:
    """The bytes beneath stdout, after what was printed as text."""
    sys.stdout.flush()
    return sys.stdout.buffer


def print_table(table: Table) -> None:
    """Print a table to stdout; in a pipe without the spaces that pad its lines."""
    out = console()
    if out.is_terminal:
        out.print(table)
        return
    with out.capture() as captured:
        out.print(table)
    lines = captured.get().splitlines()
    click.echo("".join(f"{line.rstrip()}\n" for line in lines), nl=False)


def console() -> Console:
    """Rich console on stdout: colours only on a terminal, no line breaks of its own in a pipe."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=1_000_000, color_system=None)


def plain_table(title: str | None = None) -> Table:
    """An empty table in the style of every command."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(
        box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold",
        header_style="bold", pad_edge=False, show_edge=False,
    )  # fmt: skip


def _write_table(rows: Rows) -> None:
    terminal = sys.stdout.isatty()
    every = itertools.chain.from_iterable(rows)
    kept = list(itertools.islice(every, SCREEN_ROWS + 1) if terminal else every)
    more = terminal and len(kept) > SCREEN_ROWS
    cells = [[_cell(value, terminal) for value in row] for row in kept[: len(kept) - more]]
    needed = [
        min(max([len(column.name), *(row[i].cell_len for row in cells)]), _ENOUGH)
        for i, column in enumerate(rows.columns)
    ]
    n_shown = _columns_that_fit(needed, console().width)
    table = plain_table()
    for column, width in zip(rows.columns[:n_shown], needed, strict=False):
        number = column.type.removeprefix("U") in _NUMBERS
        table.add_column(
            safe(column.name),
            justify="right" if number else "left",
            overflow="fold",
            min_width=width,
        )
    for row in cells:
        table.add_row(*row[:n_shown])
    print_table(table)
    if more:
        click.echo(
            f"These are the first {SCREEN_ROWS} rows; use -f csv or a pipe for all.", err=True
        )
    if n_shown < len(rows.columns):
        hidden = ", ".join(safe(column.name) for column in rows.columns[n_shown:])
        click.echo(f"Not shown for want of room: {hidden}.", err=True)


def _columns_that_fit(needed: Sequence[int], width: int) -> int:
    """How many of the columns have room in `width` characters; at least the first."""
    ends = itertools.accumulate(one + _GAP for one in needed)
    return max(1, sum(end - _GAP <= width for end in ends))


def _cell(value: object, short: bool) -> Text:
    from rich.text import Text

    if value is None:
        return Text("NULL", style="dim")
    if isinstance(value, bool):
        return Text(str(value).lower())
    if isinstance(value, float):
        return Text(f"{value:.6g}" if short else repr(value))
    if isinstance(value, list | tuple | dict):
        if short and not isinstance(value, dict) and len(value) > _SCREEN_ITEMS:
            first = to_json(value[:_SCREEN_ITEMS])[:-1]
            return Text(safe(f"{first}, … {len(value)}]"))
        return Text(safe(to_json(value)))
    return Text(safe(str(value)))


def _write_parquet(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: Parameters
) -> None:
    if sys.stdout.isatty():
        raise click.UsageError("Parquet is binary: send it to a file with `> FILE`.")
    with tempfile.TemporaryDirectory(prefix="atlas-") as folder:
        path = Path(folder, "rows.parquet")
        write_parquet(connection, query, path, parameters, _query_progress())
        with path.open("rb") as source:
            shutil.copyfileobj(source, binary_stdout())


def _query_progress() -> Reporter | None:
    # A log has no use for how far a query is.
    return Reporter(keep=False) if sys.stderr.isatty() else None
