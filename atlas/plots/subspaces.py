"""Semantic subspaces: how alike the features of each category are, and what is chance in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.compare.settings import WHOLE
from atlas.errors import NotFound
from atlas.plots.grid import draw_grids, mark_handles
from atlas.plots.heatmap import panels, subtitle
from atlas.plots.records import (
    BOTH,
    LEVELS,
    Axis,
    Record,
    mark,
    meanings,
    metric_name,
    models_of,
    number,
    short,
)
from atlas.plots.saving import COLOURS, GREY, check_format, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

UNCORRECTED = {"svcca": "svcca_uncapped"}
"""Metric → the one that says what its uncorrected rule would have said, drawn beside it."""

_LINE = 0.32
"""Inches a category takes in the figure of one pair."""
_SHUFFLED, _RANDOM = "#999999", COLOURS[5]
_LEVEL_STYLES: dict[str, dict[str, Any]] = {
    level: {
        "marker": marker, "linestyle": "", "color": COLOURS[1], "fillstyle": "none",
        "markersize": 6, "markeredgewidth": 0.9, "zorder": 2,
    }
    for level, marker in zip(LEVELS, "><", strict=True)
}  # fmt: skip


def plot_subspaces(rows: Sequence[Record], path: Path, metric: str) -> int:
    """Draw the rows of categories by one metric, the most alike (calibrated) on top.

    Of one pair of SAEs: a dot for each category with mean ± sd of both nulls, and the whole space
    as a dashed line. Of several: a grid with the pairs across, as `plot_heatmap`. Where rows of the
    metric's uncorrected twin are there (see `UNCORRECTED`), what these say stands beside it.
    rows: as `atlas.plots.records` says; of other metrics are passed over.

    Returns the number of categories' values drawn. BadInput for a file that cannot be written,
    NotFound where no category was compared by the metric.
    """
    check_format(path)
    chosen = [row for row in rows if row["metric"] == metric and row["subspace"] != WHOLE]
    if not chosen:
        raise NotFound(f"No comparison of categories by {metric} is there to draw.")
    beside = [row for row in rows if row["metric"] == UNCORRECTED.get(metric)]
    categories = _by_calibrated(chosen)
    if len({_pair(row) for row in chosen}) == 1:
        whole = [row for row in rows if row["metric"] == metric and row["subspace"] == WHOLE]
        sides = [(metric_name(metric), [*chosen, *whole])]
        if beside:
            sides.append((metric_name(UNCORRECTED[metric]), beside))
        title = f"{metric_name(metric)}: {' × '.join(_pair(chosen[0]))}"
        figure = _draw_dots(sides, categories, _pair(chosen[0]), title)
    else:
        models = f"{models_of(chosen, 'a')} × {models_of(chosen, 'b')}"
        title = f"{metric_name(metric)}: {models}\n{subtitle(chosen)}"
        figure = _draw_grid(chosen, beside, categories, metric, title)
    save(figure, path)
    return len(chosen)


def _pair(row: Record) -> tuple[str, str]:
    return row["sae_a"], row["sae_b"]


def _by_calibrated(rows: Sequence[Record]) -> list[str]:
    """Categories by the mean of their calibrated values, highest first; without any last."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["subspace"], []).append(number(row, "calibrated"))

    def rank(category: str) -> tuple[float, str]:
        there = [value for value in found[category] if not math.isnan(value)]
        return (-sum(there) / len(there) if there else math.inf, category)

    return sorted(found, key=rank)


def _draw_grid(
    rows: Sequence[Record],
    beside: Sequence[Record],
    categories: list[str],
    metric: str,
    title: str,
) -> Figure:
    down = Axis(categories, categories, "", [])
    across = _pair_axis(rows)
    cells = {(row["subspace"], _pair(row)): row for row in rows}
    shown = panels(cells, down, across)
    if beside:
        uncorrected = {(row["subspace"], _pair(row)): row for row in beside}
        value = panels(uncorrected, down, across)[0]
        shown.insert(2, replace(value, title=metric_name(UNCORRECTED[metric]), counts=None))
    return draw_grids(shown, down, across, title, meanings([*rows, *beside]))


def _pair_axis(rows: Sequence[Record]) -> Axis:
    """Pairs of SAEs by layers: those of one A stand together, labelled by B."""
    pairs: dict[tuple[str, str], Record] = {_pair(row): row for row in rows}

    def layer(pair: tuple[str, str], i: int) -> int | None:
        return pairs[pair].get(f"layer_{'ab'[i]}")

    def order(pair: tuple[str, str]) -> list[tuple[bool, int, str]]:
        return [(layer(pair, i) is None, layer(pair, i) or 0, pair[i]) for i in (0, 1)]

    by_layer = [
        len({pair[i] for pair in pairs}) == len({layer(pair, i) for pair in pairs} - {None})
        for i in (0, 1)
    ]

    def label(pair: tuple[str, str], i: int) -> str:
        return f"{'AB'[i]}{layer(pair, i)}" if by_layer[i] else pair[i]

    keys = sorted(pairs, key=order)
    groups: dict[str, int] = {}
    for key in keys:
        groups[label(key, 0)] = groups.get(label(key, 0), 0) + 1
    title = f"layers: A {models_of(rows, 'a')}, B {models_of(rows, 'b')}" if all(by_layer) else ""
    return Axis(keys, [label(key, 1) for key in keys], title, list(groups.items()))


def _draw_dots(
    sides: Sequence[tuple[str, Sequence[Record]]],
    categories: list[str],
    pair: tuple[str, str],
    title: str,
) -> Figure:
    from matplotlib.figure import Figure

    height = 1.5 + _LINE * len(categories)
    figure = Figure(figsize=(1.6 + 3.6 * len(sides), height), layout="constrained")
    grid = figure.subplots(1, len(sides), squeeze=False, sharex=True, sharey=True)[0]
    for axes, (name, rows) in zip(grid, sides, strict=True):
        by_category = {row["subspace"]: row for row in rows if _pair(row) == pair}
        _draw_side(axes, by_category, categories)
        axes.set_xlabel(name, fontsize=8.5)
    grid[0].set_yticks(range(len(categories)), categories, fontsize=8.5)
    grid[0].set_ylim(len(categories) - 0.4, -0.9)
    low, high = grid[0].get_xlim()
    grid[0].set_xlim(min(low, -0.02), high)
    figure.suptitle(title, fontsize=9.5)
    rows = [row for _, some in sides for row in some]
    handles = [*mark_handles(meanings(rows)), *_null_handles(rows)]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=2 * len(sides),
        frameon=False,
        fontsize=7.5,
    )
    return figure


def _draw_side(axes: Axes, rows: dict[str, Record], categories: list[str]) -> None:
    beside = axes.get_yaxis_transform()
    for i, category in enumerate(categories):
        axes.axhline(i, color="#eeeeee", linewidth=0.6, zorder=0)
        row = rows.get(category)
        if row is None or math.isnan(number(row, "value")):
            axes.text(
                0.02, i, "not measured", fontsize=7, color=GREY, va="center", transform=beside
            )
            continue
        _draw_category(axes, row, i)
        for text, at in ((short(number(row, "calibrated")), 1.09), (f"{row['n']:,}", 1.22)):
            axes.text(
                at, i, text, fontsize=7.5, ha="right", va="center", transform=beside,
                fontweight="bold" if at < 1.1 and mark(row) == BOTH else "normal",
            )  # fmt: skip
    for text, at in (("calib.", 1.09), ("n", 1.22)):
        axes.text(
            at, -0.75, text, fontsize=7, color=GREY, ha="right", va="center", transform=beside
        )
    if WHOLE in rows:
        value = number(rows[WHOLE], "value")
        axes.axvline(value, color=GREY, linestyle="--", linewidth=0.8, zorder=0)
        axes.annotate(
            "all pairs", (value, 1), xycoords=("data", "axes fraction"), xytext=(2, -2),
            textcoords="offset points", fontsize=6.5, color=GREY, va="top",
        )  # fmt: skip
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.grid(axis="x", alpha=0.25, linewidth=0.6)


def _draw_category(axes: Axes, row: Record, y: float) -> None:
    """The value on its line, and below it what chance gives; ceiling and floor as values.

    Both are calibrated: of this category's n, they are the value null + level (1 - null).
    """
    for null, colour, offset in (("null", _SHUFFLED, 0.0), ("subset", _RANDOM, 0.24)):
        mean, sd = number(row, f"{null}_mean"), number(row, f"{null}_sd")
        axes.plot(
            [mean - sd, mean + sd], [y + offset] * 2, color=colour, linewidth=4, alpha=0.55,
            solid_capstyle="butt", zorder=1,
        )  # fmt: skip
        axes.plot(mean, y + offset, marker="|", color=colour, markersize=9, zorder=2)
    null_mean = number(row, "null_mean")
    for level in LEVELS:
        axes.plot(null_mean + number(row, level) * (1 - null_mean), y, **_LEVEL_STYLES[level])
    axes.plot(
        number(row, "value"), y, marker="o", linestyle="", markersize=6.5, color=COLOURS[0],
        fillstyle=mark(row) or "none", markerfacecoloralt="white", zorder=3,
    )  # fmt: skip


def _null_handles(rows: Sequence[Record]) -> list[Line2D]:
    from matplotlib.lines import Line2D

    def some(column: str) -> bool:
        return any(not math.isnan(number(row, column)) for row in rows)

    handles = [
        Line2D([], [], color=colour, linewidth=4, alpha=0.55, label=f"{name}: mean ± sd")
        for name, column, colour in (
            ("shuffled pairs", "null_mean", _SHUFFLED),
            ("random pairs of the pairing", "subset_mean", _RANDOM),
        )
        if some(column)
    ]
    return handles + [
        Line2D([], [], label=level, **_LEVEL_STYLES[level]) for level in LEVELS if some(level)
    ]
