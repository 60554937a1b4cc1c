"""`atlas lineage`: what a feature comes from, and what becomes of it."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atlas.cli._options import (
    AtlasCommand,
    atlas_argument,
    check_names,
    open_atlas,
    wait_option,
)
from atlas.cli._output import ROW_FORMATS, console, write_query
from atlas.cli._progress import Reporter
from atlas.cli._text import one_line
from atlas.errors import NotFound
from atlas.lineage.measures import MEASURES
from atlas.store import told

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from atlas.store import Atlas

_AT_LEAST = {"mutual_information": 0.01}
"""Usual thresholds of measures for which it is not 0.5.

Real neighbouring layers (README's models) have 1 to 2½ times as many edges of 0.01 nats and more as
of r ≥ 0.5; half of the latter have 0.01 to 0.04 nats, and no pair has 0.5."""
_SHOWN = 60
"""Features that the tree has room for."""

_QUERY = """
    select
        found.feature, found.layer, found.steps, found.value, found.weakest, found.n_paths,
        best_labels.label, found.counterpart_of, found.path, found.feature_id
    from lineage(
        $feature, measure := $measure, at_least := $at_least, depth := $depth::integer,
        strong := $strong, across := $across
    ) as found
    left join best_labels on best_labels.feature_id = found.feature_id
    where ($up and found.steps < 0) or ($down and found.steps > 0) or found.steps = 0
    order by found.steps, found.counterpart_of is not null, found.value desc, found.feature_id
"""

Record = dict[str, Any]


@click.command(
    cls=AtlasCommand,
    examples=[
        "atlas lineage demo.atlas stdlib-a/1-resid_post/12",
        "atlas lineage demo.atlas stdlib-a/1-resid_post/12 --down --at-least 0.9 -f csv",
        "atlas lineage demo.atlas stdlib-a/1-resid_post/12 --across --plot lineage.svg",
        "atlas lineage demo.atlas --causal 50",
    ],
)
@atlas_argument
@click.argument("feature", required=False)
@click.option("--up", is_flag=True, help="Only what it comes from.")
@click.option("--down", is_flag=True, help="Only what it leads to.")
@click.option(
    "--depth", type=click.IntRange(min=1), metavar="N", help="Most steps.  [default: all layers]"
)
@click.option(
    "--measure", type=click.Choice(MEASURES), default="pearson", help="What makes edges strong."
)
@click.option(
    "--at-least",
    type=click.FloatRange(min=0),
    metavar="X",
    help="The least value that makes an edge.  [default: 0.5, of mutual_information 0.01]",
)
@click.option("--strong", is_flag=True, help="Count as active what exceeds a fifth of the maximum.")
@click.option("--across", is_flag=True, help="Add counterparts in other models, if compared.")
@click.option(
    "--causal",
    type=click.IntRange(min=1),
    metavar="N",
    help="In place of FEATURE: ablate the earlier feature of N edges in the running model, keep "
    "the effects on the later ones, and show them by the measure.",
)
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw it: svg, png or pdf."
)
@click.option(
    "-f",
    "--format",
    "kind",
    type=click.Choice(("tree", *ROW_FORMATS)),
    help="How results are written to stdout.  [default: tree on a terminal, csv in a pipe]",
)
@wait_option
def command(
    atlas_path: Path,
    feature: str | None,
    up: bool,
    down: bool,
    depth: int | None,
    measure: str,
    at_least: float | None,
    strong: bool,
    across: bool,
    causal: int | None,
    plot: Path | None,
    kind: str | None,
    wait: float,
) -> None:
    """Follow FEATURE through the layers, back and on, or test edges by ablation.

    Edges join features of neighbouring layers that fire together; `atlas link` keeps them. Each
    feature is reached by its strongest path, whose value is the product of the edges; of mutual
    information the tree shows the least edge. The same as the macro lineage in SQL, where
    ancestors, descendants, paths and lineages tell more.
    """
    if (feature is None) == (causal is None):
        raise click.UsageError("Give either FEATURE or --causal N.")
    if causal is not None:
        if plot is not None:
            raise click.UsageError("--plot draws the lineage of FEATURE; leave it out.")
        _ablate(atlas_path, causal, measure, "table" if kind == "tree" else kind, wait)
        return
    if plot is not None:
        from atlas.plots import check_format

        check_format(plot)
    if at_least is None:
        at_least = _AT_LEAST.get(measure, 0.5)
    up, down = up or not down, down or not up
    with open_atlas(atlas_path, wait) as atlas:
        feature_id = atlas.feature_id(feature or "")
        parameters = {
            "feature": str(feature_id),
            "measure": measure,
            "at_least": at_least,
            "depth": depth,
            "strong": strong,
            "across": across,
            "up": up,
            "down": down,
        }
        tree = kind == "tree" or (kind is None and sys.stdout.isatty())
        records = _records(atlas, parameters) if tree or plot is not None else []
        missing = _missing_layers(atlas, feature_id, up, down) if len(records) == 1 else None
        if tree:
            console().print(_tree(records, measure, missing))
        else:
            write_query(atlas.cursor(), _QUERY, kind, parameters)
        if plot is not None:
            if missing is not None:
                raise NotFound(f"There is nothing to draw but the feature itself: {missing}.")
            from atlas.plots import plot_lineage

            plot_lineage(atlas, records, plot, measure=measure, at_least=at_least, strong=strong)
            Reporter(keep=False).notice(f"{plot} shows it.")


def _ablate(path: Path, n_edges: int, measure: str, kind: str | None, wait: float) -> None:
    """Ablate a sample of edges, then show mean effects by bins of the measure."""
    check_names(path, wait)
    reporter = Reporter()
    with reporter.task("loading torch and transformers", None, "steps"):
        from atlas.ingest.causal import AblationOptions, ablate_edges
    options = AblationOptions(n_edges=n_edges, measure=measure)
    done = ablate_edges(path, options=options, progress=reporter, wait=wait)
    with open_atlas(path, wait) as atlas:
        write_query(atlas.cursor(), "from ablation_effects(?) order by at_least", kind, [measure])
    reporter.notice(
        f"{done.n_added:,} edges were ablated; see the views ablation_cards and ablation_agreement."
    )


def _records(atlas: Atlas, parameters: dict[str, object]) -> list[Record]:
    with told():
        found = atlas.execute(_QUERY, parameters)
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _missing_layers(atlas: Atlas, feature_id: int, up: bool, down: bool) -> str | None:
    """That there is no layer to go to, as a clause; None if there is one."""
    found = atlas.row(
        """
        select
            models.name, concat_ws('-', saes.hook, saes.variant),
            _chains.place - 1, len(_chains.saes) - _chains.place
        from features
        join saes on saes.sae_id = features.sae_id
        join models on models.model_id = saes.model_id
        join _chains on _chains.sae_id = saes.sae_id
        where features.feature_id = ?
        """,
        [feature_id],
    )
    assert found is not None
    model, kind, n_before, n_after = found
    if (up and n_before) or (down and n_after):
        return None
    where = "another" if up and down else "an earlier" if up else "a later"
    return f"{model} has no {kind} SAE in {where} layer"


def _tree(records: Sequence[Record], measure: str, missing: str | None) -> Tree:
    """Every feature below the one before it on its strongest path, the strongest ones first.

    missing: why there can be no other features; None if there could.
    """
    from rich.text import Text
    from rich.tree import Tree

    # A product of nats would mean nothing.
    in_nats = measure == "mutual_information"
    strength = "weakest" if in_nats else "value"
    records = sorted(records, key=lambda row: -row[strength])
    below: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for row in records:
        if row["counterpart_of"] is not None:
            below["across", row["counterpart_of"]].append(row)
        elif row["steps"] > 0:
            below["down", row["path"][-2]].append(row)
        elif row["steps"] < 0:
            below["up", row["path"][1]].append(row)
    (root,) = (row for row in records if row["steps"] == 0 and row["counterpart_of"] is None)
    tree = Tree(_line(root))
    # The strongest ones: whatever lies on the way to a feature is at least as strong.
    strongest = sorted(records, key=lambda row: (-row[strength], abs(row["steps"])))[: _SHOWN + 1]
    shown = {(row["feature_id"], row["counterpart_of"]) for row in strongest}

    def grow(branch: Tree, row: Record, found: Sequence[Record], direction: str) -> None:
        kept = [one for one in found if (one["feature_id"], one["counterpart_of"]) in shown]
        for one in kept:
            inner = [*below["across", one["feature"]], *below[direction, one["feature"]]]
            is_counterpart = one["counterpart_of"] is not None
            grow(
                branch.add(_line(one, one[strength])),
                one,
                [] if is_counterpart else inner,
                direction,
            )
        if len(kept) < len(found):
            branch.add(Text(f"… {len(found) - len(kept):,} more", style="dim"))

    within = [row["steps"] for row in records if row["counterpart_of"] is None]
    for title, direction, n in (
        ("from", "up", sum(steps < 0 for steps in within)),
        ("to", "down", sum(steps > 0 for steps in within)),
    ):
        if below[direction, root["feature"]]:
            side = tree.add(Text(f"{title}  ({n:,})", style="bold"))
            grow(side, root, below[direction, root["feature"]], direction)
    for one in below["across", root["feature"]]:
        tree.add(_line(one, one[strength]))
    if len(records) == 1:
        last = missing or "nothing that strong leads to it or from it; lower --at-least"
    elif in_nats:
        last = "values: least mutual_information along the strongest path, in nats"
    else:
        last = f"values: product of {measure} along the strongest path"
    tree.add(Text(last, style="dim"))
    return tree


def _line(row: Record, strength: float | None = None) -> Text:
    """A feature in the tree; without a strength, its root."""
    from rich.text import Text

    # What does not fit on a terminal is cut from the end: the label's, which is why it comes last.
    sign = "≈ " if row["counterpart_of"] is not None else ""
    text = Text(sign, no_wrap=True, overflow="ellipsis")
    if strength is not None:
        text.append(f"{strength:.3f}  ")
    text.append(row["feature"], style="bold" if strength is None else "")
    if row["n_paths"] > 1:
        text.append(f"  ({row['n_paths']:,} paths)", style="dim")
    if row["label"]:
        text.append(f"  {one_line(row['label'])}", style="" if strength is None else "dim")
    return text
