"""Panels of coloured cells side by side, with numbers, marks and missing cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from atlas.plots.records import BOTH, UNTESTED, Axis, short
from atlas.plots.saving import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from numpy.typing import NDArray

_LARGEST = 0.62
"""Inches: side of a cell, where there is room for it."""
_ROOM = (10.0, 9.0)
"""Inches that all cells together may take, width and height."""
_WITH_NUMBER, _WITH_COUNT = 0.26, 0.42
"""Inches: sides from which a cell has room for its value, and for its number of pairs too."""
_TITLE = 1.6
"""Inches that the title of a panel takes."""
_GROUP_ROOM = 14
"""Points that the names of groups take."""
_BAR_ROOM = 0.75
"""Inches that a colour bar with its numbers takes."""
_MISSING: dict[str, Any] = {
    "facecolor": "#f2f2f2", "edgecolor": "#b5b5b5", "hatch": "////", "linewidth": 0,
}  # fmt: skip
_DARK_TEXT = 0.2
"""Luminance above which black stands out more than white does."""


@dataclass(frozen=True)
class Panel:
    """One grid of numbers. Those of one `scale` share colours and a colour bar."""

    title: str
    values: NDArray[np.float64]
    """(rows, columns); NaN is drawn hatched."""
    scale: str
    diverging: bool = False
    """Colours centred at 0, else from 0 (or the lowest value below it) on."""
    marks: NDArray[np.object_] | None = None
    """(rows, columns) of fill styles, as `atlas.plots.records.mark` gives them."""
    counts: NDArray[np.float64] | None = None
    """(rows, columns): small print below the value."""
    levels: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Name → values drawn on the colour bar: 'ceiling', 'floor'."""


def draw_grids(
    panels: Sequence[Panel], rows: Axis, columns: Axis, title: str, meanings: Mapping[str, str]
) -> Figure:
    """The panels with common axes, in the arrangement that makes cells largest."""
    from matplotlib.figure import Figure

    shape = (len(rows.keys), len(columns.keys))
    n_across, cell = _arrangement(len(panels), *shape)
    n_down = len(panels) // n_across
    bars = [_ends_scale(panels, i, n_across) for i in range(len(panels))]
    n_bars = max(sum(bars[i : i + n_across]) for i in range(0, len(panels), n_across))
    labels = 0.5 + 0.07 * max(len(label) for label in rows.labels)
    size = (
        n_across * (cell * shape[1] + 0.2) + labels + _BAR_ROOM * n_bars,
        n_down * (cell * shape[0] + 0.45) + 1.3,
    )
    figure = Figure(figsize=(max(size[0], 5.4), size[1]), layout="compressed")
    axes = figure.subplots(n_down, n_across, squeeze=False, sharex=True, sharey=True).ravel()
    norms = {
        scale: _norm([panel for panel in panels if panel.scale == scale])
        for scale in {panel.scale for panel in panels}
    }
    for i, (one, panel) in enumerate(zip(axes, panels, strict=True)):
        mesh = _draw_cells(one, panel, norms[panel.scale], cell)
        if bars[i]:
            _draw_bar(figure, one, mesh, panel, cell * shape[1])
        _draw_axis(one, rows, columns)
        one.tick_params(labelleft=i % n_across == 0, labelbottom=i >= len(panels) - n_across)
    bottom, left = axes[-n_across:], axes[::n_across]
    for one in bottom:
        _draw_groups(one, columns, "bottom")
    for one in left:
        _draw_groups(one, rows, "left")
    # In the middle of all panels: of an even number, at the end of the one before.
    bottom[(n_across - 1) // 2].set_xlabel(
        columns.title, fontsize=8.5, x=0.5 if n_across % 2 else 1.0
    )
    left[(n_down - 1) // 2].set_ylabel(rows.title, fontsize=8.5, y=0.5 if n_down % 2 else 0.0)
    figure.suptitle(title, fontsize=9.5)
    handles = [*mark_handles(meanings), *_missing_handle(panels)]
    if handles:
        n_beside = max(1, min(len(handles), int(figure.get_figwidth() / 2.6)))
        figure.legend(
            handles=handles, loc="outside lower center", ncols=n_beside, frameon=False, fontsize=7.5
        )
    return figure


def _arrangement(n_panels: int, n_rows: int, n_columns: int) -> tuple[int, float]:
    """How many panels stand side by side, and the side of a cell in inches."""

    def cell(n_across: int) -> float:
        n_down = n_panels // n_across
        largest = max(_LARGEST, _TITLE / n_columns)
        return min(largest, _ROOM[0] / (n_across * n_columns), _ROOM[1] / (n_down * n_rows))

    across = [n for n in range(n_panels, 0, -1) if n_panels % n == 0]
    best = max(across, key=cell)  # side by side, of equals
    return best, cell(best)


def _ends_scale(panels: Sequence[Panel], i: int, n_across: int) -> bool:
    """Whether no panel to the right of i shares its colours, so that the bar stands there."""
    last = (i + 1) % n_across == 0
    return last or panels[i + 1].scale != panels[i].scale


def _norm(panels: Sequence[Panel]) -> Normalize:
    from matplotlib.colors import Normalize

    there = np.concatenate([_finite(panel) for panel in panels])
    low, high = (float(there.min()), float(there.max())) if len(there) else (0.0, 1.0)
    if panels[0].diverging:
        reach = max(abs(low), abs(high), 1e-3)
        return Normalize(-reach, reach)
    low = min(low, 0.0)
    return Normalize(low, max(high, low + 1e-3))


def _finite(panel: Panel) -> NDArray[np.float64]:
    """All numbers of a panel that its colours must reach."""
    levels = [np.asarray(values, np.float64) for values in panel.levels.values()]
    every: NDArray[np.float64] = np.concatenate([panel.values.ravel(), *levels])
    return np.extract(np.isfinite(every), every)


def _draw_cells(axes: Axes, panel: Panel, norm: Normalize, cell: float) -> QuadMesh:
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    colours = colormaps["coolwarm" if panel.diverging else "cividis"]
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(panel.values), cmap=colours, norm=norm, edgecolors="white",
        linewidth=0.8 if cell >= _WITH_NUMBER else 0.4,
    )  # fmt: skip
    for i, j in np.ndindex(panel.values.shape):
        value = float(panel.values[i, j])
        if math.isnan(value):
            axes.add_patch(Rectangle((j, i), 1, 1, **_MISSING))
        else:
            dark = _luminance(colours(norm(value))) > _DARK_TEXT
            _write(axes, panel, i, j, "black" if dark else "white", cell)
    axes.set_title(panel.title, fontsize=9)
    return mesh


def _write(axes: Axes, panel: Panel, i: int, j: int, ink: str, cell: float) -> None:
    """What a cell `cell` inches wide has room for: value, count and mark."""
    points = cell * 72
    mark = UNTESTED if panel.marks is None else str(panel.marks[i, j])
    count = math.nan if panel.counts is None else float(panel.counts[i, j])
    with_number, with_count = cell >= _WITH_NUMBER, cell >= _WITH_COUNT and not math.isnan(count)
    if with_number:
        axes.text(
            j + 0.5, i + (0.6 if mark and not with_count else 0.5), short(panel.values[i, j]),
            ha="center", va="center", color=ink, fontsize=min(9, max(5, points * 0.27)),
            fontweight="bold" if mark == BOTH else "normal",
        )  # fmt: skip
    if with_count:
        axes.text(
            j + 0.5, i + 0.84, f"{count:,.0f}",
            ha="center", va="center", color=ink, fontsize=min(6, points * 0.15),
        )  # fmt: skip
    if mark:
        x, y, size = (0.86, 0.16, 0.12) if with_number else (0.5, 0.5, 0.3)
        style = _mark_style(mark, ink, min(4.5, points * size))
        axes.plot(j + x, i + y, linestyle="", **style)


def _luminance(colour: Sequence[float]) -> float:
    """Relative luminance (WCAG 2), of which dark text needs much and light text little."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _mark_style(kind: str, ink: str, size: float) -> dict[str, Any]:
    return {
        "marker": "o", "fillstyle": kind, "color": ink, "markersize": size,
        "markerfacecoloralt": "none", "markeredgewidth": min(0.8, size * 0.18),
    }  # fmt: skip


def mark_handles(meanings: Mapping[str, str]) -> list[Line2D]:
    """What a legend says of marks: kind → meaning."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], linestyle="", label=label, **_mark_style(kind, GREY, 6))
        for kind, label in meanings.items()
    ]


def _missing_handle(panels: Sequence[Panel]) -> list[Patch]:
    from matplotlib.patches import Patch

    if not any(np.isnan(panel.values).any() for panel in panels):
        return []
    return [Patch(**_MISSING, label="not measured")]


def _draw_bar(figure: Figure, axes: Axes, mesh: QuadMesh, panel: Panel, width: float) -> None:
    """The colour bar at the right of a panel `width` inches wide, as high as it is."""
    beside = axes.inset_axes((1 + 0.09 / width, 0, 0.13 / width, 1))
    bar = figure.colorbar(mesh, cax=beside)
    bar.outline.set_visible(False)
    beside.tick_params(labelsize=7, length=2)
    if panel.diverging:
        # Centred colours, of which the bar shows those that occur.
        there = _finite(panel)
        beside.set_ylim(min(0.0, there.min(initial=0.0)), max(1e-3, there.max(initial=0.0)))
    for name, values in panel.levels.items():
        known = [value for value in values if not math.isnan(value)]
        if not known:
            continue
        low, high = min(known), max(known)
        beside.axhspan(low, high, color="black", alpha=0.25, linewidth=0)
        for value in {low, high}:
            beside.axhline(value, color="black", linewidth=1)
        beside.annotate(
            name, (1, (low + high) / 2), xytext=(25, 0),
            xycoords=("axes fraction", "data"), textcoords="offset points",
            fontsize=7.5, va="center", rotation=90,
        )  # fmt: skip


def _draw_axis(axes: Axes, rows: Axis, columns: Axis) -> None:
    """Labels, and lines between groups; row 0 is on top, as in a table."""
    axes.set_aspect("equal")
    axes.set_xlim(0, len(columns.keys))
    axes.set_ylim(len(rows.keys), 0)
    axes.set_xticks(
        np.arange(len(columns.keys)) + 0.5, columns.labels, fontsize=7.5,
        rotation=90 if _long(columns) else 0,
    )  # fmt: skip
    axes.set_yticks(np.arange(len(rows.keys)) + 0.5, rows.labels, fontsize=7.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for axis, draw_line in ((columns, axes.axvline), (rows, axes.axhline)):
        for at in np.cumsum([n for _, n in axis.groups])[:-1]:
            draw_line(float(at), color="black", linewidth=1)


def _long(axis: Axis) -> bool:
    """Whether its labels are too long to stand side by side."""
    return any(len(label) > 3 for label in axis.labels)


def _draw_groups(axes: Axes, axis: Axis, side: Literal["bottom", "left"]) -> None:
    """Names of groups on a second axis outside the labels, within the axis's title."""
    if not axis.groups:
        return
    ends = np.cumsum([n for _, n in axis.groups])
    middles = [float(end - n / 2) for end, (_, n) in zip(ends, axis.groups, strict=True)]
    names = [name for name, _ in axis.groups]
    longest = max(len(label) for label in axis.labels)
    if side == "bottom":
        outer = axes.secondary_xaxis("bottom")
        outer.set_xticks(middles, names, fontsize=8)
        outer.tick_params(length=0, pad=4 + 4.8 * longest if _long(axis) else 13)
        axes.xaxis.labelpad = _GROUP_ROOM
    else:
        outer = axes.secondary_yaxis("left")
        outer.set_yticks(middles, names, fontsize=8, rotation=90, va="center")
        outer.tick_params(length=0, pad=6 + 4.8 * longest)
        axes.yaxis.labelpad = _GROUP_ROOM
    outer.spines[:].set_visible(False)
