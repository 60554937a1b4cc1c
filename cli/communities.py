"""`atlas communities`: features of all layers that go together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from atlas.cli._options import (
    AtlasCommand,
    atlas_argument,
    check_names,
    count_option,
    format_option,
    open_atlas,
    wait_option,
)
from atlas.cli._output import ROW_FORMATS, write_query
from atlas.cli._progress import Reporter
from atlas.errors import NotFound
from atlas.lineage.measures import MEASURES

if TYPE_CHECKING:
    from atlas.lineage.partition import Method

METHODS = ("leiden_modularity", "leiden_cpm", "louvain", "components")
"""As `atlas.lineage.partition` has them, whose imports `--help` does without."""


@click.command(
    cls=AtlasCommand,
    examples=[
        "atlas communities demo.atlas --method leiden_modularity --at-least 0.3",
        "atlas communities demo.atlas stdlib-a --method leiden_cpm --method louvain",
        "atlas communities demo.atlas --of 0 -n 20",
        "atlas communities demo.atlas",
    ],
)
@atlas_argument
@click.argument("model", required=False)
@click.option(
    "--method",
    "methods",
    type=click.Choice(METHODS),
    multiple=True,
    help="Find communities in this way; may be given several times.",
)
@click.option(
    "--resolution",
    type=click.FloatRange(min=0, min_open=True),
    metavar="R",
    show_default=False,
    help="The higher, the smaller the communities.  [default: 1, of leiden_cpm 0.1]",
)
@click.option(
    "--measure", type=click.Choice(MEASURES), default="pearson", help="Weight of the edges."
)
@click.option(
    "--at-least",
    type=click.FloatRange(min=0),
    default=0.1,
    metavar="X",
    help="The least weight that makes an edge.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, metavar="N", help="Of what is random."
)
@click.option(
    "--reruns",
    type=click.IntRange(min=0),
    default=5,
    metavar="N",
    help="Compare with the communities of so many other seeds.",
)
@click.option(
    "--of",
    "clustering",
    type=click.IntRange(min=0),
    metavar="ID",
    help="List the largest communities of this clustering, by its clustering_id.",
)
@count_option(20, "communities of --of")
@format_option(*ROW_FORMATS)
@wait_option
def command(
    atlas_path: Path,
    model: str | None,
    methods: tuple[Method, ...],
    resolution: float | None,
    measure: str,
    at_least: float,
    seed: int,
    reruns: int,
    clustering: int | None,
    count: int,
    kind: str | None,
    wait: float,
) -> None:
    """Find features of all layers that go together, and keep them.

    MODEL is a model, an SAE or a pattern of SAEs' names; all layers of the same hook and variant
    take part. Without --method nothing is computed, and the clusterings that the atlas holds are
    listed. Layers must be linked (`atlas link`).
    """
    if clustering is not None and (methods or model):
        raise click.UsageError("--of lists what is there; leave out --method and MODEL.")
    reporter = Reporter()
    ids: list[int] | None = None
    if methods:
        check_names(atlas_path, wait, model)
        with reporter.task("loading", None, "steps"):
            from atlas.lineage.communities import ClusterOptions, cluster
        options = ClusterOptions(methods, resolution, measure, at_least, seed, reruns)
        outcome = cluster(atlas_path, model, options, progress=reporter, wait=wait)
        ids = list(outcome.clustering_ids)
        if not outcome.n_added:
            reporter.notice("Kept from an earlier run; nothing was computed.")
    with open_atlas(atlas_path, wait) as atlas:
        if clustering is None:
            write_query(atlas.cursor(), _LIST, kind, {"ids": ids, "model": model})
            return
        if atlas.row("select 1 from clusterings where clustering_id = ?", [clustering]) is None:
            raise NotFound(
                f"{atlas_path} has no clustering {clustering}; `atlas communities {atlas_path}` "
                "lists those that it has."
            )
        write_query(atlas.cursor(), _OF, kind, {"id": clustering, "n": count})


_LIST = """
select
    clustering_id, model || '/*-' || concat_ws('-', hook, variant) as saes, method, n_communities,
    n_features, largest, stability, quality,
    clustering_cards.* exclude (
        clustering_id, method, n_communities, n_features, largest, stability, quality
    )
from clustering_cards
where if(
    $ids is null,
    $model is null or (model, hook, variant) in (
        select (models.name, saes.hook, saes.variant) from saes join models using (model_id)
        where list_contains((select saes_in($model)), saes.sae_id)
    ),
    list_contains($ids::integer[], clustering_id)
)
order by clustering_id
"""

_OF = """
select community, label, n_features, n_layers, first_layer, last_layer, widest, density
from community_cards where clustering_id = $id order by community limit $n
"""
