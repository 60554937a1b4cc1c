"""`atlas link`: which features of two SAEs fire together, and how often."""

from __future__ import annotations

from pathlib import Path

import click

from atlas.cli._options import (
    AtlasCommand,
    atlas_argument,
    check_names,
    format_option,
    open_atlas,
    wait_option,
)
from atlas.cli._output import ROW_FORMATS, write_query
from atlas.cli._progress import Reporter


@click.command(
    cls=AtlasCommand,
    examples=[
        "atlas link demo.atlas",
        "atlas link demo.atlas stdlib-a/1-resid_post stdlib-gpt2/3-resid_post",
        "atlas link demo.atlas 'stdlib-a/1-*' 'stdlib-a/3-*' --min-joint 50",
    ],
)
@atlas_argument
@click.argument("a", required=False)
@click.argument("b", required=False)
@click.option(
    "--min-joint",
    type=click.IntRange(min=1),
    default=20,
    metavar="N",
    help="Keep pairs of features with as many joint firings.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    help="Where to compute; the numbers are the same.",
)
@format_option(*ROW_FORMATS)
@wait_option
def command(
    atlas_path: Path,
    a: str | None,
    b: str | None,
    min_joint: int,
    device: str,
    kind: str | None,
    wait: float,
) -> None:
    """Count which features of A and B fire together, and find communities.

    A and B are SAEs, models (all of their SAEs) or patterns of SAEs' names. Without B: every layer
    of A with the next one, without both of every model. Tokens are counted where A and B have a
    tokenizer in common, else words. What comes out is read in SQL: `from edges`, `from link_cards`.
    Where all layers of a model are linked, communities of their features are found, too; `atlas
    communities` finds others.
    """
    check_names(atlas_path, wait, a, b)
    reporter = Reporter()
    with reporter.task("loading", None, "steps"):
        from atlas.lineage.communities import cluster_linked
        from atlas.lineage.linking import LinkOptions, link
    options = LinkOptions(min_joint=min_joint, device=device)
    outcome = link(atlas_path, a, b, options, progress=reporter, wait=wait)
    names = (a,) if b is None else (a, b)
    clustered = cluster_linked(atlas_path, names, progress=reporter, wait=wait)
    with open_atlas(atlas_path, wait) as atlas:
        write_query(
            atlas.cursor(),
            """
            select link_cards.* exclude (sae_id_a, sae_id_b)
            from (select unnest(?) as link_id, unnest(range(len(?))) as place) as asked
            join link_cards using (link_id)
            order by asked.place
            """,
            kind,
            [list(outcome.link_ids), list(outcome.link_ids)],
        )
    if outcome.n_forgotten:
        reporter.notice(
            f"{outcome.n_forgotten:,} clusterings of the layers that are linked anew were deleted; "
            f"`atlas communities {atlas_path} --method …` finds such again."
        )
    if not outcome.n_added and not clustered.n_added:
        reporter.notice("Kept from an earlier run; nothing was computed.")
    elif clustered.n_added:
        reporter.notice(f"Communities were found, too: `atlas communities {atlas_path}`.")
