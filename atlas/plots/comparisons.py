"""All figures of a comparison of SAEs: one for each metric, and one for its categories."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from atlas.compare.settings import WHOLE
from atlas.errors import NotFound
from atlas.plots.heatmap import plot_heatmap
from atlas.plots.records import Record
from atlas.plots.saving import check_format
from atlas.plots.subspaces import UNCORRECTED, plot_subspaces


def plot_comparisons(rows: Sequence[Record], path: Path) -> list[Path]:
    """Draw rows as `atlas.plots.records` describes them; returns the files written.

    A heatmap for each metric of whole spaces (unless it would have one cell, and that stands in the
    figure of its categories) and a figure of the categories. One figure is written to `path`;
    several to files beside it, named `stem-metric` and `stem-metric-categories`.
    BadInput for a file that cannot be written, NotFound where there are no rows.
    """
    check_format(path)
    figures: dict[str, Callable[[Path], int]] = {}
    for metric in dict.fromkeys(row["metric"] for row in rows):
        of_it = [row for row in rows if row["metric"] == metric]
        whole = [row for row in of_it if row["subspace"] == WHOLE]
        categories = len(whole) < len(of_it)
        name = re.sub(r"\W+", "-", metric).strip("-")
        if len(whole) > 1 or (whole and not categories):
            figures[name] = partial(plot_heatmap, rows, metric=metric)
        if categories and not _beside_another(metric, rows):
            figures[f"{name}-categories"] = partial(plot_subspaces, rows, metric=metric)
    if not figures:
        raise NotFound("No comparison is there to draw.")
    files = {name: path.with_name(f"{path.stem}-{name}{path.suffix}") for name in figures}
    if len(figures) == 1:
        files = dict.fromkeys(figures, path)
    for name, draw in figures.items():
        draw(files[name])
    return list(files.values())


def _beside_another(metric: str, rows: Sequence[Record]) -> bool:
    """Whether its categories stand in the figure of the metric that it is the twin of."""
    corrected = {one for one, twin in UNCORRECTED.items() if twin == metric}
    return any(row["metric"] in corrected and row["subspace"] != WHOLE for row in rows)
