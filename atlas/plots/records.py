"""Rows of comparisons as figures want them: numbers, marks of significance, names of axes.

A row has the columns of the view `universality`; figures read `sae_a`, `sae_b`, `layer_a`,
`layer_b`, `subspace`, `metric`, `n`, `value`, `calibrated`, `null_mean`, `null_sd`, `q`,
`subset_mean`, `subset_sd`, `subset_q`, `ceiling` and `floor` (these two calibrated). What is
missing, None or NaN is drawn as missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

Record = Mapping[str, Any]

LEVELS = ("ceiling", "floor")
"""Columns that calibrated values are read against."""

ALPHA = 0.05
"""q up to which a value is marked."""

BOTH, SHUFFLES, SUBSETS, NEITHER, UNTESTED = "full", "left", "right", "none", ""
"""Marks: beyond both nulls, beyond shuffled pairs alone, beyond random features alone, beyond
neither; '' where nothing was tested. The first four are matplotlib's fill styles."""

_METRIC_NAMES = {
    "svcca": "SVCCA",
    "svcca_k1": "SVCCA, one component (as published in 2024)",
    "svcca_uncapped": "SVCCA, 99 % rule uncorrected",
    "cka": "linear CKA",
    "rsa": "RSA",
    "mean_correlation": "mean correlation",
    "procrustes": "Procrustes similarity",
}


@dataclass(frozen=True)
class Axis:
    """What stands along one side of a grid."""

    keys: list[Any]
    labels: list[str]
    title: str
    groups: list[tuple[str, int]]
    """Neighbouring labels that belong together, as (name, how many); none where one says all."""


def number(row: Record, column: str) -> float:
    """The column as a float, NaN where the row has none."""
    value = row.get(column)
    return math.nan if value is None else float(value)


def mark(row: Record) -> str:
    """One of `BOTH`, `SHUFFLES`, `SUBSETS`, `NEITHER`, `UNTESTED`.

    Where random features were not tried, shuffled pairs decide alone.
    """
    q, subset_q = number(row, "q"), number(row, "subset_q")
    if math.isnan(q) and math.isnan(subset_q):
        return UNTESTED
    against_shuffles, against_subsets = q <= ALPHA, subset_q <= ALPHA
    if against_shuffles and (against_subsets or math.isnan(subset_q)):
        return BOTH
    if against_subsets and math.isnan(q):
        return BOTH
    return SHUFFLES if against_shuffles else SUBSETS if against_subsets else NEITHER


def meanings(rows: Iterable[Record]) -> dict[str, str]:
    """The marks that occur in rows, and what each means."""
    rows = list(rows)
    tests = [
        name
        for name, column in (("shuffled pairs", "q"), ("random features", "subset_q"))
        if any(not math.isnan(number(row, column)) for row in rows)
    ]
    told = {
        BOTH: f"q ≤ {ALPHA:g}: {', '.join(tests)}",
        SHUFFLES: f"q ≤ {ALPHA:g}: shuffled pairs alone",
        SUBSETS: f"q ≤ {ALPHA:g}: random features alone",
        NEITHER: f"q > {ALPHA:g}",
    }
    marks = {mark(row) for row in rows}
    return {one: meaning for one, meaning in told.items() if one in marks}


def metric_name(metric: str) -> str:
    """A metric as a title says it."""
    if metric.startswith("rsa("):
        return f"RSA ({metric[4:-1]})"
    return _METRIC_NAMES.get(metric, metric)


def sae_axis(rows: Iterable[Record], side: str) -> Axis:
    """The SAEs of one side ('a' or 'b') in the order of models and layers.

    Labels are layers where these tell the SAEs of a model apart, else what follows the model's
    name; of several models, each is a group.
    """
    layers = {row[f"sae_{side}"]: row.get(f"layer_{side}") for row in rows}
    saes = sorted(layers, key=lambda sae: (_model(sae), layers[sae] is None, layers[sae] or 0, sae))
    models = [(model, list(some)) for model, some in groupby(saes, _model)]
    hooks = {_hook(sae) for sae in saes}
    by_layer = len(hooks) == 1 and all(layers[sae] is not None for sae in saes)
    labels = [str(layers[sae]) if by_layer else sae.rpartition("/")[2] for sae in saes]
    kind = f"layer ({hooks.pop()})" if by_layer else "SAE"
    if len(models) == 1:
        return Axis(saes, labels, f"{models[0][0]}, {kind}", [])
    return Axis(saes, labels, kind, [(model, len(some)) for model, some in models])


def models_of(rows: Iterable[Record], side: str) -> str:
    """The names of the models on one side."""
    return ", ".join(sorted({_model(row[f"sae_{side}"]) for row in rows}))


def spread(values: Sequence[float]) -> str:
    """'.81' or '.81–.86' of the numbers that are there; '' of none."""
    there = [value for value in values if not math.isnan(value)]
    if not there:
        return ""
    return "–".join(dict.fromkeys((short(min(there)), short(max(there)))))


def short(value: float) -> str:
    """Two decimals as tables print correlations: '.07', '−.31', '1.00'; '' of NaN."""
    if math.isnan(value):
        return ""
    text = f"{abs(value):.2f}".removeprefix("0")
    return f"−{text}" if value < 0 and text != ".00" else text


def _model(sae: str) -> str:
    return sae.rpartition("/")[0]


def _hook(sae: str) -> str:
    """Hook and variant of `model/layer-hook[-variant]`."""
    return sae.rpartition("/")[2].partition("-")[2]
