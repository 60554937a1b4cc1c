"""The loss-versus-L0 frontier of an atlas's SAEs as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.errors import NotFound
from atlas.plots.saving import COLOURS, GREY, check_format, save
from atlas.store import Atlas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

USUAL = ("ce_spliced", "fvu")
"""What is drawn where no metric is named: the first one that the atlas has."""

_MARKERS = "osD^vPX*"
_COLUMNS = 4
_PANEL = (3.6, 2.9)
"""Inches."""
_ENTRY = 1.6
"""Inches that an entry of the legend takes."""

_AXES = {
    "ce_spliced": "cross entropy, spliced (nats)",
    "fvu": "variance unexplained",
    "explained_variance": "explained variance",
    "ce_recovered": "cross entropy recovered",
    "kl": "KL divergence of outputs (nats)",
}

Record = dict[str, Any]


def plot_frontier(atlas: Atlas, path: Path, metric: str | None = None) -> int:
    """Draw the view `frontier` to a file: a panel for each hook point, SAEs by L0 and a metric.

    SAEs that no other one beats are joined by a line; where the metric is `ce_spliced`, a dashed
    one shows the model as it is. metric: the first of `USUAL` that the atlas has, if None.

    Returns the number of SAEs drawn. BadInput for a file that cannot be written, NotFound where no
    SAE has the metric.
    """
    check_format(path)
    rows = _rows(atlas, metric)
    save(_draw(rows, rows[0]["metric"]), path)
    return len(rows)


def _rows(atlas: Atlas, metric: str | None) -> list[Record]:
    """The view `frontier` for the metric, with the model's own loss; ordered by hook point, L0."""
    for one in USUAL if metric is None else (metric,):
        relation = atlas.sql(
            """
            select frontier.*, ce.value as ce
            from frontier
            left join sae_metrics as ce on ce.sae_id = frontier.sae_id and ce.metric = 'ce'
            where frontier.metric = ?
            order by model, writes, context, l0, value
            """,
            [one],
        )
        rows = [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]
        if rows:
            return rows
    known = [name for (name,) in atlas.rows("select distinct metric from frontier order by all")]
    raise NotFound(
        f"No SAE of {atlas.path} has the metric {metric!r}; draw one of {', '.join(known)}."
        if known
        else f"{atlas.path} has no SAE to draw; add some with `atlas ingest`."
    )


def _draw(rows: list[Record], metric: str) -> Figure:
    from matplotlib.figure import Figure

    architectures = sorted({row["architecture"] for row in rows})
    widths = sorted({row["d_sae"] for row in rows})
    colours = {one: COLOURS[i % len(COLOURS)] for i, one in enumerate(architectures)}
    markers = {one: _MARKERS[i % len(_MARKERS)] for i, one in enumerate(widths)}
    # Measured in contexts of another length, losses do not compare.
    panels = [list(some) for _, some in groupby(rows, _place)]
    n_columns = min(_COLUMNS, len(panels))
    n_rows = math.ceil(len(panels) / n_columns)
    handles = _legend(colours, markers)
    width = max(n_columns * _PANEL[0], 5)
    n_beside = int(width / _ENTRY)
    height = n_rows * _PANEL[1] + 0.25 * math.ceil(len(handles) / n_beside)
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw_panel(axes, panel, metric, colours, markers)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for i, axes in enumerate(grid.flat[: len(panels)]):
        if i % n_columns == 0:
            axes.set_ylabel(_AXES.get(metric, metric))
        if i + n_columns >= len(panels):
            axes.set_xlabel("L0")
            axes.tick_params(labelbottom=True)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=n_beside, frameon=False, fontsize=9
    )
    return figure


def _legend(colours: dict[str, str], markers: dict[int, str]) -> list[Line2D]:
    from matplotlib.lines import Line2D

    def mark(label: str, colour: str = GREY, marker: str = "o", **style: Any) -> Line2D:
        style = {"linestyle": ""} | style
        return Line2D([], [], color=colour, marker=marker, label=label, **style)

    handles = [mark(name, colour) for name, colour in colours.items()]
    if len(markers) > 1:
        handles += [mark(f"{width:,} features", marker=one) for width, one in markers.items()]
    return [*handles, mark("best for its L0", linestyle="-"), mark("beaten", fillstyle="none")]


def _place(row: Record) -> tuple[str, str, int]:
    return row["model"], row["writes"], row["context"]


def _draw_panel(
    axes: Axes,
    rows: Sequence[Record],
    metric: str,
    colours: dict[str, str],
    markers: dict[int, str],
) -> None:
    best = [row for row in rows if row["best"]]
    x, y = [row["l0"] for row in best], [row["value"] for row in best]
    axes.step(x, y, where="post", color="#999999", linewidth=1.2, zorder=1)
    for row in rows:
        axes.plot(
            row["l0"],
            row["value"],
            marker=markers[row["d_sae"]],
            color=colours[row["architecture"]],
            fillstyle="full" if row["best"] else "none",
            linestyle="",
            markersize=6,
            zorder=2,
        )
    if metric == "ce_spliced":
        axes.axhline(rows[0]["ce"], color=GREY, linestyle="--", linewidth=0.8, zorder=0)
        axes.annotate(
            "model as it is", (1, rows[0]["ce"]), xycoords=("axes fraction", "data"),
            ha="right", va="bottom", fontsize=7, color=GREY,
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_title(f"{rows[0]['model']}  {rows[0]['writes']}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
