"""What an atlas holds, in one object: `summary(atlas)`; one of its SAEs: `sae_summary(…)`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from atlas.errors import NotFound, QueryError
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


@dataclass(frozen=True)
class SaeSummary:
    """What an atlas says of one SAE's quality."""

    card: Record
    """Its row of the view sae_cards."""
    metrics: tuple[Record, ...]
    """metric, topic, value, declared (by the publisher of an imported SAE; None if not), better,
    definition, version: one for each metric that it has, in the order of the view metrics."""
    density: tuple[Record, ...]
    """at_least, below, features: the macro density_histogram."""
    probes: tuple[Record, ...]
    """Its rows of the view probe_scores."""
    absorptions: tuple[Record, ...]
    """Its rows of the view absorption_scores."""
    conventions: Any
    """Of an imported SAE: its format, its configuration as published, and what was folded."""


def sae_summary(atlas: Atlas, sae: str | int) -> SaeSummary:
    """Read the summary of an SAE, given by name or id; NotFound tells the nearest names."""
    try:
        found = atlas.row("select sae_id(?)", [str(sae)])
    except QueryError as error:
        raise NotFound(str(error)) from error
    assert found is not None
    own = list(found)
    (card,) = _records(atlas, "from sae_cards where sae_id = ?", own)
    of_metric = {
        row.pop("metric"): row
        for row in _records(
            atlas,
            "select metric, sae_metrics.value, declared_metrics.value as declared, version"
            " from sae_metrics left join declared_metrics using (sae_id, metric) where sae_id = ?",
            own,
        )
    }
    defined = _records(atlas, "select metric, topic, better, definition from metrics")
    conventions = atlas.row("select conventions from saes where sae_id = ?", own)
    assert conventions is not None
    return SaeSummary(
        card=card,
        metrics=tuple(
            one | of_metric[one["metric"]] for one in defined if one["metric"] in of_metric
        ),
        density=_records(
            atlas, "select at_least, below, features from density_histogram(?)", [card["sae"]]
        ),
        probes=_records(
            atlas,
            "select * exclude (sae, sae_id) from probe_scores where sae_id = ?"
            " order by property, k",
            own,
        ),
        absorptions=_records(
            atlas,
            "select * exclude (sae, sae_id) from absorption_scores where sae_id = ?"
            " order by letter",
            own,
        ),
        conventions=conventions[0] and json.loads(conventions[0]),
    )


def _records(atlas: Atlas, query: str, parameters: list[Any] | None = None) -> tuple[Record, ...]:
    relation = atlas.sql(query, parameters)
    return tuple(dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall())
