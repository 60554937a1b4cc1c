"""Layer × layer heatmaps of how alike the features of SAEs are: value, null, calibrated value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atlas.compare.settings import WHOLE
from atlas.errors import NotFound
from atlas.plots.grid import Panel, draw_grids
from atlas.plots.records import (
    LEVELS,
    Axis,
    Record,
    mark,
    meanings,
    metric_name,
    models_of,
    number,
    sae_axis,
    spread,
)
from atlas.plots.saving import check_format, save

if TYPE_CHECKING:
    from numpy.typing import NDArray


def plot_heatmap(rows: Sequence[Record], path: Path, metric: str) -> int:
    """Draw the whole-space rows of one metric: SAEs of A down, of B across, by layer.

    Three panels: the value (with the number of pairs), the mean of its permutation null on the same
    colours, and the calibrated value with ceiling and floor on its colour bar. Filled marks are
    significant after correction (see `atlas.plots.records.mark`).
    rows: as `atlas.plots.records` says; of other metrics and of categories are passed over.

    Returns the number of cells drawn. BadInput for a file that cannot be written, NotFound where no
    row has the metric.
    """
    check_format(path)
    chosen = [row for row in rows if row["metric"] == metric and row["subspace"] == WHOLE]
    if not chosen:
        raise NotFound(f"No comparison of whole spaces by {metric} is there to draw.")
    down, across = sae_axis(chosen, "a"), sae_axis(chosen, "b")
    cells = {(row["sae_a"], row["sae_b"]): row for row in chosen}
    figure = draw_grids(
        panels(cells, down, across),
        down,
        across,
        f"{metric_name(metric)}: {models_of(chosen, 'a')} × {models_of(chosen, 'b')}\n"
        + subtitle(chosen),
        meanings(chosen),
    )
    save(figure, path)
    return len(cells)


def panels(cells: dict[tuple[Any, Any], Record], down: Axis, across: Axis) -> list[Panel]:
    """Value, null mean and calibrated value of the rows by their keys on both axes."""

    def of(read: Callable[[Record], Any], missing: Any, dtype: Any) -> NDArray[Any]:
        array = np.full((len(down.keys), len(across.keys)), missing, dtype)
        for i, one in enumerate(down.keys):
            for j, other in enumerate(across.keys):
                if (one, other) in cells:
                    array[i, j] = read(cells[one, other])
        return array

    def numbers(column: str) -> NDArray[np.float64]:
        return of(lambda row: number(row, column), np.nan, np.float64)

    marks = of(mark, "", object)
    levels = {name: [number(row, name) for row in cells.values()] for name in LEVELS}
    return [
        Panel("value", numbers("value"), "value", marks=marks, counts=numbers("n")),
        Panel("null mean: pairs shuffled", numbers("null_mean"), "value"),
        Panel(
            "calibrated", numbers("calibrated"), "calibrated", diverging=True, marks=marks,
            levels=levels,
        ),
    ]  # fmt: skip


def subtitle(rows: Sequence[Record]) -> str:
    """How many pairs, and the ranges of ceiling and floor (calibrated) where they are known."""
    counts = [round(n) for row in rows if not math.isnan(n := number(row, "n"))]
    ends = sorted({min(counts), max(counts)}) if counts else []
    parts = [f"{'–'.join(f'{n:,}' for n in ends)} pairs of features each"] if ends else []
    levels = [(name, spread([number(row, name) for row in rows])) for name in LEVELS]
    if told := ", ".join(f"{name} {values}" for name, values in levels if values):
        parts.append(f"calibrated {told}")
    return " · ".join(parts)
