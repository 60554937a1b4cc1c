"""What an atlas holds, in one object: `summary(atlas)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from atlas.store import Atlas

Record = dict[str, Any]
"""One row of a view: column → value."""


@dataclass(frozen=True)
class Summary:
    """An atlas at a glance."""

    path: str
    n_bytes: int
    format: str
    """Number of the file format."""
    stamp: str
    """Changes with every committed run."""
    holds: Record
    """The view overview: counts and the reference corpus."""
    models: tuple[Record, ...]
    """The view model_cards."""
    saes: tuple[Record, ...]
    """The view sae_cards, by SAE id."""
    labels: tuple[Record, ...]
    """method, labels, mean_score: one for each method."""
    tables: tuple[Record, ...]
    """name, rows: one for each base table, the largest first."""


def summary(atlas: Atlas) -> Summary:
    """Read the summary of an open atlas."""
    return Summary(
        path=str(atlas.path),
        n_bytes=atlas.path.stat().st_size,
        format=atlas.meta("format") or "",
        stamp=atlas.stamp,
        holds=_records(atlas, "from overview")[0],
        models=_records(atlas, "from model_cards order by model_id"),
        saes=_records(atlas, "from sae_cards order by sae_id"),
        labels=_records(
            atlas,
            "select method, count(*) as labels, avg(score) as mean_score from labels"
            " group by method order by method",
        ),
        # DuckDB's estimate is exact, since an atlas only ever grows.
        tables=_records(
            atlas,
            "select table_name as name, estimated_size as rows from duckdb_tables()"
            " where not internal and database_name = current_database()"
            " order by estimated_size desc, table_name",
        ),
    )


def _records(atlas: Atlas, query: str) -> tuple[Record, ...]:
    relation = atlas.sql(query)
    return tuple(dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall())
