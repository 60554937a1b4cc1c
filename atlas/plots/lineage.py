"""The lineage of a feature as a picture: layers from left to right, edges as wide as strong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atlas.errors import NotFound
from atlas.plots.boxes import (
    HEADER,
    INDENT,
    LETTERS,
    LINE,
    PAD,
    Box,
    Edge,
    Record,
    column,
    placed,
    with_counterparts,
)
from atlas.plots.lettering import INCH, fit, width
from atlas.plots.saving import COLOURS, GREY, check_format, save
from atlas.store import Atlas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

MOST = 60
"""Features and counterparts besides the feature itself that one picture has room for."""

# All that is placed is placed in inches, from the left and from the top.
_SMALL, _HEADING = 6.0, 9.0
"""Points: of values, of the title."""
_MARGIN = 0.12
_NARROWEST = 3.6
_WIDEST_EDGE = 4.0
"""Points: the strongest edge. Others are narrower in proportion."""
_HANDLE, _SPACING = 2.4, 1.8
"""Of the legend, in letters' sizes: its lines, and the space between its columns."""
_CURVE = np.linspace(0.0, 1.0, 41)
_ALONG = (0.5, 0.4, 0.6, 0.3, 0.7, 0.22, 0.78)
"""Shares of the way across at which a value may stand on its edge."""

_NAMES = {"pearson": "Pearson’s r", "jaccard": "Jaccard index"}

_OWN, _OTHER = COLOURS[0], COLOURS[1]
_PALE = "#B4C6D4"
_FILL, _FILL_ROOT, _FILL_OTHER = "#F1F6FA", "#CFE2F0", "#FFF7F1"


def plot_lineage(
    atlas: Atlas,
    rows: Sequence[Record],
    path: Path,
    *,
    measure: str,
    at_least: float,
    strong: bool = False,
) -> int:
    """Draw rows of the macro `lineage`, each with a `label` besides, and all edges among them.

    A counterpart stands below each feature that it is one of.

    measure, at_least, strong: those of the rows. Of more features and counterparts than `MOST` the
        strongest are drawn, as in the tree.

    Returns the number of boxes drawn. BadInput for a file that cannot be written, NotFound where
    nothing leads to or from the feature.
    """
    check_format(path)
    if len(rows) < 2:
        raise NotFound("There is nothing to draw but the feature itself; lower --at-least.")
    # A feature lies on no path stronger than its own, and is no weaker than its counterparts, so
    # what is drawn stays in one piece.
    drawn = sorted(rows, key=_rank)[: MOST + 1]
    own = [row["feature_id"] for row in drawn if row["counterpart_of"] is None]
    edges = _edges(atlas, own, measure, at_least, strong)
    name = _NAMES.get(measure, measure.replace("_", " "))
    root = next(row for row in drawn if row["steps"] == 0 and row["counterpart_of"] is None)
    told = f"{name} ≥ {at_least:g} between neighbouring layers"
    if strong:
        told += ", where both exceed a fifth of their maximum"
    if len(drawn) < len(rows):
        of = " and counterparts" if any(row["counterpart_of"] for row in rows) else ""
        told += f"; the {len(drawn) - 1:,} strongest of {len(rows) - 1:,} features{of}"
    save(_figure(drawn, edges, root["feature"], told, name), path)
    return len(drawn)


def _rank(row: Record) -> tuple[float, int, int, bool, int, str]:
    """The strongest first, as in the tree; whatever order the rows came in."""
    counterpart_of, steps = row["counterpart_of"], row["steps"]
    return (
        *(-row["value"], abs(steps), steps, counterpart_of is not None),
        *(row["feature_id"], counterpart_of or ""),
    )


def _edges(
    atlas: Atlas, feature_ids: Sequence[int], measure: str, at_least: float, strong: bool
) -> list[Edge]:
    """All edges of neighbouring layers among some features."""
    return atlas.rows(
        """
        select edges.feature_id, edges.next_id, edges.edge
        from _strong_edges($measure, $at_least, $strong) as edges
        where list_contains($ids, edges.feature_id) and list_contains($ids, edges.next_id)
        order by all
        """,
        {"measure": measure, "at_least": at_least, "strong": strong, "ids": list(feature_ids)},
    )


def _figure(
    rows: Sequence[Record], edges: Sequence[Edge], title: str, told: str, name: str
) -> Figure:
    from matplotlib.figure import Figure

    legend = _legend(rows, edges, name)
    headers = {
        row["steps"]: row["feature"].rsplit("/", 1)[0].split("/", 1)[1]
        for row in rows
        if row["counterpart_of"] is None
    }
    columns = {step: column(rows, step, headers) for step in sorted(headers)}
    # How wide the page is tells how many lines stand above the boxes.
    boxes = placed(columns, edges, _MARGIN, 0.0)
    right = max(box.left + box.across for box in boxes)
    across = max(right + _MARGIN, _NARROWEST, 2 * _MARGIN + width(title, _HEADING, bold=True))
    subtitle = fit(told, across - 2 * _MARGIN, 3, LETTERS)
    start = _MARGIN + 0.2 + LINE * len(subtitle) + 0.28
    boxes = [replace(box, top=box.top + start) for box in boxes]
    end = max(box.top + box.down for box in boxes) + 0.18
    in_line = _in_line([text for _, text in legend], across - 2 * _MARGIN)
    height = end + -(-len(legend) // in_line) * 0.17 + _MARGIN
    figure = Figure(figsize=(across, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, across)
    axes.set_ylim(height, 0)
    axes.axis("off")
    _write(axes, title, _MARGIN, _MARGIN + 0.12, _HEADING, bold=True)
    for i, line in enumerate(subtitle):
        _write(axes, line, _MARGIN, _MARGIN + 0.2 + LINE * (i + 0.8), LETTERS, colour=GREY)
    lefts = {box.row["steps"]: box.left for box in boxes if not box.is_counterpart}
    for step, header in headers.items():
        _write(axes, header, lefts[step], start - 0.1, HEADER, colour=GREY, bold=True)
    curves = _draw_edges(axes, rows, boxes, edges)
    _draw_boxes(axes, boxes)
    _draw_values(axes, curves)
    axes.legend(
        *zip(*legend, strict=True), loc="upper left", bbox_to_anchor=(_MARGIN, end),
        bbox_transform=axes.transData, borderaxespad=0, borderpad=0, frameon=False,
        fontsize=LETTERS, ncols=in_line, handlelength=_HANDLE, columnspacing=_SPACING,
        labelspacing=0.4,
    )  # fmt: skip
    return figure


@dataclass(frozen=True)
class _Curve:
    """An edge as it is drawn: points (n, 2) in inches, its value, whether on a strongest path."""

    points: np.ndarray
    value: float
    strongest: bool


def _draw_edges(
    axes: Axes, rows: Sequence[Record], boxes: Sequence[Box], edges: Sequence[Edge]
) -> list[_Curve]:
    places = {box.row["feature_id"]: box for box in boxes if not box.is_counterpart}
    paths = _on_strongest_paths(rows)
    most = max((value for _, _, value in edges), default=1.0)
    curves = []
    for a, b, value in edges:
        source, target = places[a], places[b]
        left, right = source.left + source.across, target.left
        t = _CURVE
        x = left + (right - left) * (1.5 * t * (1 - t) + t**3)
        y = source.middle + (target.middle - source.middle) * t**2 * (3 - 2 * t)
        curves.append(_Curve(np.stack([x, y], axis=1), value, (a, b) in paths))
    for curve in sorted(curves, key=lambda curve: (curve.strongest, curve.value)):
        axes.plot(
            curve.points[:, 0], curve.points[:, 1], linewidth=_edge_width(curve.value, most),
            color=_OWN if curve.strongest else _PALE, alpha=0.75 if curve.strongest else 1.0,
            zorder=2 if curve.strongest else 1, solid_capstyle="butt",
        )  # fmt: skip
    return curves


def _on_strongest_paths(rows: Sequence[Record]) -> set[tuple[int, int]]:
    ids = {row["feature"]: row["feature_id"] for row in rows if row["counterpart_of"] is None}
    return {
        (ids[a], ids[b])
        for row in rows
        if row["counterpart_of"] is None
        for a, b in pairwise(row["path"])
    }


def _edge_width(value: float, most: float) -> float:
    """Points; in proportion, so that an edge twice as strong is twice as wide."""
    return max(_WIDEST_EDGE * value / most if most > 0 else 0.0, 0.3)


def _number(value: float, most: float) -> str:
    """A value, with as many places as tell apart what is no more than `most`."""
    return f"{value:.2f}" if most >= 0.1 else f"{value:.2g}"


def _draw_boxes(axes: Axes, boxes: Sequence[Box]) -> None:
    from matplotlib.patches import FancyBboxPatch

    for box in boxes:
        counterpart = box.is_counterpart
        root = not counterpart and box.row["steps"] == 0
        axes.add_patch(
            FancyBboxPatch(
                (box.left, box.top), box.across, box.down,
                boxstyle="round,pad=0,rounding_size=0.035", zorder=4,
                facecolor=_FILL_OTHER if counterpart else _FILL_ROOT if root else _FILL,
                edgecolor=_OTHER if counterpart else _OWN, linewidth=1.4 if root else 0.6,
                linestyle=":" if counterpart else "-",
            )
        )  # fmt: skip
        for text, left, line, bold in box.words:
            y = box.top + PAD + LINE * (line + 0.78)
            _write(axes, text, box.left + left, y, LETTERS, bold=bold)
    for own, *counterparts in with_counterparts(boxes):
        _draw_dotted(axes, own, counterparts)


def _draw_dotted(axes: Axes, own: Box, counterparts: Sequence[Box]) -> None:
    """A line from a feature to each counterpart, further left the further down: none cross."""
    t = _CURVE
    for i, box in enumerate(counterparts):
        start = own.left + INDENT * (1 - (i + 1) / (len(counterparts) + 1))
        top, bottom = own.top + own.down, box.middle
        # Down first and then to the right, around the counterparts between.
        axes.plot(
            start + (box.left - start) * t**2, top + (bottom - top) * t * (2 - t), ":",
            color=_OTHER, linewidth=1.0, zorder=3,
        )  # fmt: skip


def _draw_values(axes: Axes, curves: Sequence[_Curve]) -> None:
    """Values of the strongest edges, wherever no other edge and no other value is in the way."""
    taken = np.empty((0, 4))
    most = max((curve.value for curve in curves), default=1.0)
    for i in sorted(range(len(curves)), key=lambda i: -curves[i].value):
        curve = curves[i]
        if not curve.strongest:
            continue
        text = _number(curve.value, most)
        half, up = width(text, _SMALL) / 2 + 0.02, 0.06
        others = np.concatenate(
            [np.empty((0, 2)), *(one.points for j, one in enumerate(curves) if j != i)]
        )
        for share in _ALONG:
            x, y = curve.points[round(share * (len(_CURVE) - 1))]
            if x - half < curve.points[0, 0] or x + half > curve.points[-1, 0]:
                continue
            box = np.array([x - half, y - up, x + half, y + up])
            near = (abs(others[:, 0] - x) < half + 0.02) & (abs(others[:, 1] - y) < up + 0.02)
            if near.any() or _overlaps(taken, box).any():
                continue
            axes.text(
                x, y, text, fontsize=_SMALL, ha="center", va="center_baseline", zorder=5,
                bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "linewidth": 0},
            )  # fmt: skip
            taken = np.vstack([taken, box])
            break


def _overlaps(boxes: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Which of the boxes (n, 4: left, top, right, bottom) lie over one more."""
    over: np.ndarray = np.all((boxes[:, :2] < one[2:]) & (boxes[:, 2:] > one[:2]), axis=1)
    return over


def _legend(rows: Sequence[Record], edges: Sequence[Edge], name: str) -> list[tuple[Line2D, str]]:
    from matplotlib.lines import Line2D

    found = []
    paths = _on_strongest_paths(rows)
    if edges:
        values = [value for _, _, value in edges]
        most, least = max(values), min(values)
        for i, text in enumerate(
            dict.fromkeys(_number(value, most) for value in (most, (most + least) / 2, least))
        ):
            line = Line2D(
                [], [], linewidth=_edge_width(float(text), most), color=_OWN, alpha=0.75,
                solid_capstyle="butt",
            )  # fmt: skip
            found.append((line, text if i else f"{name} = {text}"))
    if any((a, b) not in paths for a, b, _ in edges):
        line = Line2D([], [], linewidth=_WIDEST_EDGE / 2, color=_PALE, solid_capstyle="butt")
        found.append((line, "on no feature’s strongest path"))
    if any(row["counterpart_of"] is not None for row in rows):
        line = Line2D([], [], color=_OTHER, linestyle=":", linewidth=1.2)
        found.append((line, "counterpart in another model, with its r"))
    return found


def _in_line(texts: Sequence[str], across: float) -> int:
    """How many entries of a legend fit side by side, in columns as wide as their widest."""
    for n in range(len(texts), 1, -1):
        parts = np.array_split(np.array(texts, dtype=object), n)
        taken = sum(max(width(text, LETTERS) for text in part) for part in parts)
        taken += (n * (_HANDLE + 0.8) + (n - 1) * _SPACING) * LETTERS / INCH
        if taken <= across:
            return n
    return 1


def _write(
    axes: Axes, text: str, x: float, y: float, size: float, *,
    colour: str = "black", bold: bool = False,
) -> None:  # fmt: skip
    """One line from x on, on the base line y (inches)."""
    axes.text(
        x, y, text, fontsize=size, color=colour, fontweight="bold" if bold else "normal",
        va="baseline", parse_math=False, zorder=5,
    )  # fmt: skip
