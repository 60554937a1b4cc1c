"""Adding rows to tables of an atlas, from columns, single values or Parquet files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from atlas.store import Atlas

_TOKEN_COLUMNS = ("token", "first_token", "last_token")


def next_id(atlas: Atlas, table: str, column: str) -> int:
    """The number after the largest in that column; 0 in an empty table."""
    found = atlas.rows(f"select coalesce(max({column}) + 1, 0) from {table}")
    return int(found[0][0])


def insert_row(atlas: Atlas, table: str, row: Mapping[str, object]) -> None:
    """Add a row; columns that it does not name are null."""
    atlas.execute(
        f"insert into {table} ({', '.join(row)}) values ({', '.join('?' * len(row))})",
        list(row.values()),
    )


def insert_columns(atlas: Atlas, table: str, columns: Mapping[str, object]) -> None:
    """Add rows given as columns; a column that the table lacks is an error."""
    atlas.insert(table, pa.table(dict(columns)))


def insert_file(
    atlas: Atlas, file: Path, first_feature: int, first_token: int, constants: Mapping[str, int]
) -> None:
    """Add a Parquet file named as its table, local numbers made the atlas's."""
    source = pq.ParquetFile(file)
    columns = source.schema_arrow.names
    table = file.stem
    changed = [f"{first_token} + {name} as {name}" for name in _TOKEN_COLUMNS if name in columns]
    added = [f"{value}::integer as {name}" for name, value in constants.items()]
    dropped = "" if table == "features" else "exclude (index)"
    replaced = f"replace ({', '.join(changed)})" if changed else ""
    selected = ", ".join([f"{first_feature} + index as feature_id", *added])
    rows = pa.RecordBatchReader.from_batches(source.schema_arrow, source.iter_batches())
    atlas.insert(table, rows, f"{selected}, * {dropped} {replaced}")
