"""The rows of a query as plain Python values, a batch at a time, and as JSON or CSV text."""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from atlas.errors import QueryError
from atlas.progress import Progress
from atlas.running import interruptible
from atlas.store import Parameters, told

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

Row = tuple[Any, ...]

BATCH_ROWS = 4096
_CSV_AS_IS = re.compile(r"U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|VARCHAR|DECIMAL\(.*\)")


class Column(NamedTuple):
    """A column of a result."""

    name: str
    type: str
    """DuckDB's name of the type: 'BIGINT', 'FLOAT[]', 'STRUCT(x INTEGER)[]', …"""


class Rows:
    """The rows of one query, read once and in batches, so that memory does not grow with them.

    The connection is busy until the last batch is read or `close()` is called.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        batches: Iterable[Sequence[Row]],
        close: Callable[[], object] = lambda: None,
    ) -> None:
        self.columns = tuple(columns)
        """Their names are unique: a repeated one has `_1`, `_2`, … added."""
        self._batches = batches
        self.close = close
        """Drops what has not been read."""

    def __iter__(self) -> Iterator[Sequence[Row]]:
        """Batches of at most `BATCH_ROWS` rows."""
        return iter(self._batches)


def run(
    connection: duckdb.DuckDBPyConnection,
    text: str,
    parameters: Parameters = None,
    progress: Progress | None = None,
) -> Rows | None:
    """Run the statements of `text` and return the rows of the last; None if it has none.

    parameters: of the last statement.
    progress: is told DuckDB's estimate, in percent, of what comes before the first row.

    FLOAT columns arrive as the shortest double that rounds to them (0.1, not
    0.10000000149011612) and TIMESTAMP WITH TIME ZONE as text, for which DuckDB's client would
    need a package. Ctrl-C stops the query at once. QueryError for an empty text and for what DuckDB
    refuses.
    """
    _tell_progress(connection, progress)
    columns = interruptible(connection, lambda: _start(connection, text, parameters), progress)
    if columns is None:
        return None
    return Rows(columns, _fetch(connection), connection.abort)


def write_parquet(
    connection: duckdb.DuckDBPyConnection,
    text: str,
    path: Path,
    parameters: Parameters = None,
    progress: Progress | None = None,
) -> None:
    """Run the statements of `text` and write the rows of the last, which must be a query."""

    def write() -> None:
        with told():
            query, kind = _run_all_but_last(connection, text)
            if kind != "SELECT":
                raise QueryError(f"A statement of type {kind} has no rows to write; use a query.")
            connection.sql(query, params=parameters).write_parquet(str(path), compression="zstd")

    _tell_progress(connection, progress)
    interruptible(connection, write, progress)


def _tell_progress(connection: duckdb.DuckDBPyConnection, progress: Progress | None) -> None:
    if progress is not None:
        # Counted, but never printed: DuckDB would print its own bar to stdout.
        connection.execute("set enable_progress_bar = true")
        connection.execute("set enable_progress_bar_print = false")


def _run_all_but_last(connection: duckdb.DuckDBPyConnection, text: str) -> tuple[str, str]:
    """The last statement of `text` and its type, the ones before it having been run."""
    statements = connection.extract_statements(text)
    if not statements:
        raise QueryError("The query is empty; give one such as 'from sae_cards'.")
    for statement in statements[:-1]:
        connection.execute(statement)
    return statements[-1].query, statements[-1].type.name


def _start(
    connection: duckdb.DuckDBPyConnection, text: str, parameters: Parameters
) -> list[Column] | None:
    """Run up to the first row; the columns, or None if the last statement has no rows."""
    with told():
        query, kind = _run_all_but_last(connection, text)
        if kind != "SELECT":
            connection.execute(query, parameters)
            described = connection.description or ()
            types = [str(column[1]) for column in described]
            if [column[0] for column in described] == ["Success"]:
                connection.abort()
                return None
        else:
            relation = connection.sql(query, params=parameters)
            types = [str(kind) for kind in relation.types]
            casts = [_plain_cast(kind) for kind in types]
            if any(casts):
                cells = zip(relation.columns, casts, strict=True)
                query = relation.project(
                    ", ".join(
                        f"#{i}{cast} as {_quoted(name)}" for i, (name, cast) in enumerate(cells, 1)
                    )
                ).sql_query()
            connection.execute(query, parameters)
        names = [str(column[0]) for column in connection.description or ()]
    return list(map(Column, _unique(names), types))


def _fetch(connection: duckdb.DuckDBPyConnection) -> Iterator[list[Row]]:
    def fetch() -> list[Row]:
        with told():
            return connection.fetchmany(BATCH_ROWS)

    while batch := interruptible(connection, fetch):
        yield batch


def _plain_cast(kind: str) -> str:
    """The cast that makes a column of DuckDB type `kind` plain, or '' where it is so already."""
    text = re.sub(r"\bTIMESTAMP WITH TIME ZONE\b", "VARCHAR", kind)
    if "'" in kind or '"' in kind:  # an enum's values or quoted field names: leave them alone
        return ""
    if "FLOAT" in kind:
        # Through text, because a cast of FLOAT to DOUBLE keeps the digits that FLOAT never had.
        return f"::{text.replace('FLOAT', 'VARCHAR')}::{text.replace('FLOAT', 'DOUBLE')}"
    return f"::{text}" if text != kind else ""


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _unique(names: list[str]) -> list[str]:
    taken: set[str] = set()
    unique = []
    for name in names:
        candidate, n = name, 0
        while candidate in taken or (n and candidate in names):
            n += 1
            candidate = f"{name}_{n}"
        taken.add(candidate)
        unique.append(candidate)
    return unique


# -- as text ------------------------------------------------------------------------------------


def json_lines(columns: Sequence[Column]) -> Callable[[Sequence[Row]], list[str]]:
    """The function that turns a batch of rows of these columns into one JSON object a row.

    NaN and infinities are null, timestamps and dates ISO 8601, blobs hexadecimal, decimals numbers
    where a double holds them and strings elsewhere; columns of type JSON are embedded.
    """
    names = [column.name for column in columns]
    embedded = [i for i, column in enumerate(columns) if column.type == "JSON"]

    def lines(batch: Sequence[Row]) -> list[str]:
        if embedded:
            batch = [_with_parsed(row, embedded) for row in batch]
        return [to_json(dict(zip(names, row, strict=True))) for row in batch]

    return lines


def write_text(rows: Rows, stream: TextIO, kind: str) -> int:
    """Write all rows to `stream` as 'csv', 'ndjson' or 'json' (one array); returns how many.

    CSV has a header, its nested values are JSON, NULL is empty.
    """
    count = 0
    if kind == "csv":
        lines_of = _csv_lines(rows.columns)
        stream.write(_csv_text([[column.name for column in rows.columns]]))
        for batch in rows:
            stream.write(lines_of(batch))
            count += len(batch)
        return count
    lines = json_lines(rows.columns)
    opening, between, closing = ("[", ",\n", "]\n") if kind == "json" else ("", "\n", "")
    stream.write(opening)
    for batch in rows:
        text = between.join(lines(batch))
        stream.write(between + text if count and kind == "json" else text)
        if kind == "ndjson":
            stream.write("\n")
        count += len(batch)
    stream.write(closing)
    return count


def to_json(value: object) -> str:
    """One value as JSON on one line, in the forms that `json_lines` states."""
    try:
        return _JSON.encode(value)
    except (ValueError, TypeError):
        # Somewhere in it is a NaN or a key that is no string.
        return _JSON.encode(plain(value))


def plain(value: Any) -> Any:
    """`value` made of None, bool, int, finite float, str, list and dict with string keys only."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k if isinstance(k, str) else str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return _plain_leaf(value)


def _csv_lines(columns: Sequence[Column]) -> Callable[[Sequence[Row]], str]:
    """The function that turns a batch of rows of these columns into CSV lines."""
    converted = [i for i, column in enumerate(columns) if not _CSV_AS_IS.fullmatch(column.type)]

    def lines(batch: Sequence[Row]) -> str:
        if not converted:
            return _csv_text(batch)
        rows = [list(row) for row in batch]
        for row in rows:
            for i in converted:
                row[i] = _csv_cell(row[i])
        return _csv_text(rows)

    return lines


def _csv_text(rows: Sequence[Sequence[object]], end: str = "\n") -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator=end).writerows(rows)
    text = buffer.getvalue()
    if end == "\n" and "\r" in text:
        # The writer quotes the characters of its own line end only, and readers take a bare
        # carriage return for one.
        return "".join(_csv_text([row], "\r\n").removesuffix("\r\n") + "\n" for row in rows)
    return text


def _csv_cell(cell: object) -> object:
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if cell is None or isinstance(cell, str | int | float | Decimal):
        return cell
    return to_json(cell) if isinstance(cell, list | tuple | dict) else _plain_leaf(cell)


def _plain_leaf(value: object) -> object:
    if isinstance(value, Decimal):
        double = float(value)
        return double if Decimal(repr(double)) == value else str(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def _with_parsed(row: Row, embedded: list[int]) -> Row:
    cells = list(row)
    for i in embedded:
        if cells[i] is not None:
            cells[i] = json.loads(cells[i])
    return tuple(cells)


_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain_leaf)
