"""The lineage of a feature as a picture: layers from left to right, edges as wide as strong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.errors import NotFound
from atlas.plots.saving import COLOURS, GREY, check_format, save
from atlas.store import Atlas

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 60
"""Features that one picture has room for."""

_ROW = 0.4
"""Inches that a feature takes down."""
_LETTER = 0.065
"""Inches that a letter takes across."""
_LABEL = 26
"""Characters that are shown of a label."""
_WIDTHS = (0.6, 4.0)
"""Points: of an edge that is just strong enough, and of one of 1."""

Record = dict[str, Any]
Places = dict[int, tuple[float, float]]


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

    measure, at_least, strong: those of the rows. Of more features than `MOST` the strongest are
        drawn.

    Returns the number of features drawn. BadInput for a file that cannot be written, NotFound where
    nothing leads to or from the feature.
    """
    from matplotlib.figure import Figure

    check_format(path)
    own = [row for row in rows if row["counterpart_of"] is None]
    others = [row for row in rows if row["counterpart_of"] is not None]
    if len(rows) < 2:
        raise NotFound("There is nothing to draw but the feature itself; lower --at-least.")
    # A feature lies on no path stronger than its own, so what is drawn stays in one piece.
    drawn = sorted(own, key=lambda row: (-row["value"], abs(row["steps"])))[:MOST]
    names = {row["feature"] for row in drawn}
    others = [row for row in others if row["counterpart_of"] in names][: MOST - len(drawn)]
    edges = _edges(atlas, [row["feature_id"] for row in drawn], measure, at_least, strong)
    columns = _columns(drawn, others, edges)
    tallest = max(map(len, columns.values()))
    across = max(1.1, 0.3 + _LETTER * max(len(_text(row)) for row in [*drawn, *others]))
    figure = Figure(
        figsize=(max(5.0, across * (len(columns) + 0.2)), max(2.2, _ROW * tallest + 1.1)),
        layout="constrained",
    )
    axes = figure.subplots()
    places = {
        row["feature_id"]: (float(step), (len(column) - 1) / 2 - i)
        for step, column in columns.items()
        for i, row in enumerate(column)
    }
    _draw_edges(axes, places, edges, drawn, others, at_least)
    _draw_features(axes, places, [*drawn, *others])
    for step, column in columns.items():
        sae = next(row for row in column if row["counterpart_of"] is None)["feature"]
        axes.annotate(
            sae.rsplit("/", 1)[0].split("/", 1)[1], (step, tallest / 2 + 0.1), ha="center",
            va="bottom", fontsize=9, color=GREY, parse_math=False,
        )  # fmt: skip
    left_out = len(rows) - len(drawn) - len(others)
    root = next(row for row in own if row["steps"] == 0)
    axes.set_title(
        f"{root['feature']}  ({measure} ≥ {at_least:g}"
        + (f"; {left_out:,} weaker ones left out)" if left_out else ")"),
        fontsize=10, parse_math=False,
    )  # fmt: skip
    axes.set_xlim(min(columns) - 0.2, max(columns) + 0.85)
    axes.set_ylim(-tallest / 2 - 0.3, tallest / 2 + 0.7)
    axes.axis("off")
    save(figure, path)
    return len(drawn) + len(others)


def _edges(
    atlas: Atlas, feature_ids: Sequence[int], measure: str, at_least: float, strong: bool
) -> list[tuple[int, int, float]]:
    """(upstream, downstream, value) of all edges of neighbouring layers among some features."""
    return atlas.rows(
        """
        select edges.feature_id, edges.next_id, edges.edge
        from _strong_edges($measure, $at_least, $strong) as edges
        where list_contains($ids, edges.feature_id) and list_contains($ids, edges.next_id)
        """,
        {"measure": measure, "at_least": at_least, "strong": strong, "ids": list(feature_ids)},
    )


def _columns(
    drawn: Sequence[Record], others: Sequence[Record], edges: Sequence[tuple[int, int, float]]
) -> dict[int, list[Record]]:
    """Features of each step, from top to bottom; each near those that it is joined to."""
    beside: dict[str, list[Record]] = defaultdict(list)
    for row in others:
        beside[row["counterpart_of"]].append(row)
    joined: dict[int, list[int]] = defaultdict(list)
    for a, b, _ in edges:
        joined[a].append(b)
        joined[b].append(a)
    height: dict[int, float] = {}
    columns = {}
    # From the feature outwards: the ones before are in place already.
    for step in sorted({row["steps"] for row in drawn}, key=abs):

        def wanted(row: Record) -> tuple[float, float]:
            known = [height[one] for one in joined[row["feature_id"]] if one in height]
            return (-sum(known) / len(known) if known else 0.0, -row["value"])

        own = sorted((row for row in drawn if row["steps"] == step), key=wanted)
        columns[step] = [one for row in own for one in (row, *beside[row["feature"]])]
        for i, row in enumerate(columns[step]):
            height[row["feature_id"]] = (len(columns[step]) - 1) / 2 - i
    return dict(sorted(columns.items()))


def _draw_edges(
    axes: Axes, places: Places, edges: Sequence[tuple[int, int, float]],
    drawn: Sequence[Record], others: Sequence[Record], at_least: float,
) -> None:  # fmt: skip
    thin, thick = _WIDTHS
    for a, b, value in edges:
        share = (value - at_least) / max(1 - at_least, 1e-9)
        axes.plot(
            *zip(places[a], places[b], strict=True), color=COLOURS[0], zorder=1,
            linewidth=thin + (thick - thin) * share, alpha=0.35 + 0.5 * share,
            solid_capstyle="round",
        )  # fmt: skip
    ids = {row["feature"]: row["feature_id"] for row in drawn}
    for row in others:
        axes.plot(
            *zip(places[ids[row["counterpart_of"]]], places[row["feature_id"]], strict=True),
            color=COLOURS[1], linestyle=":", linewidth=1.2, zorder=1,
        )  # fmt: skip


def _draw_features(axes: Axes, places: Places, rows: Sequence[Mapping[str, Any]]) -> None:
    # Behind the text, so that it can be read across edges; an outline would make it a drawing.
    paper = {"boxstyle": "round,pad=0.08", "facecolor": "white", "alpha": 0.7, "linewidth": 0}
    for row in rows:
        x, y = places[row["feature_id"]]
        counterpart = row["counterpart_of"] is not None
        axes.plot(
            x, y, "s" if counterpart else "o", color=COLOURS[1] if counterpart else COLOURS[0],
            markersize=5 if counterpart else 7, zorder=2, markeredgecolor="white",
        )  # fmt: skip
        axes.annotate(
            _text(row), (x, y), xytext=(3, 4), textcoords="offset points", va="bottom",
            fontsize=7.5, zorder=3, parse_math=False, bbox=paper,
            fontweight="bold" if row["steps"] == 0 and not counterpart else "normal",
        )  # fmt: skip


def _text(row: Mapping[str, Any]) -> str:
    """Name and label; of the model's own features the layer stands above."""
    name, label = row["feature"], row["label"] or ""
    if row["counterpart_of"] is None:
        name = name.rsplit("/", 1)[1]
    if len(label) > _LABEL:
        label = label[: _LABEL - 1] + "…"
    return f"{name}  {label}".rstrip()
