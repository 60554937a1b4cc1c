"""`atlas similar`: the nearest features."""

from __future__ import annotations

from pathlib import Path

import click

from atlas.cli._options import (
    AtlasCommand,
    atlas_argument,
    format_option,
    open_atlas,
    wait_option,
    within_option,
)
from atlas.cli._output import ROW_FORMATS, write_query


@click.command(
    cls=AtlasCommand,
    examples=[
        "atlas similar demo.atlas stdlib-a/1-resid_post/12",
        "atlas similar demo.atlas stdlib-a/1-resid_post/12 --within stdlib-gpt2 -k 3",
        "atlas similar demo.atlas stdlib-a/1-resid_post/12 --by decoder -f json",
    ],
)
@atlas_argument
@click.argument("feature")
@click.option(
    "--by",
    type=click.Choice(["activation", "decoder", "encoder"]),
    default="activation",
    help="Correlation of activations (any model), or cosine of directions (same space).",
)
@click.option("-k", type=click.IntRange(min=1), default=10, metavar="N", help="How many.")
@within_option
@click.option("--exact", is_flag=True, help="Score every feature in SQL instead of using FAISS.")
@format_option(*ROW_FORMATS)
@wait_option
def command(
    atlas_path: Path,
    feature: str,
    by: str,
    k: int,
    within: str | None,
    exact: bool,
    kind: str | None,
    wait: float,
) -> None:
    """Find the features most like FEATURE, in any model.

    The same as the macros similar and, with --exact, similar_exact in SQL.
    """
    macro = "similar_exact" if exact else "similar"
    query = f"""
        select found.rank, found.feature, found.score, label, found.feature_id
        from {macro}(?, k := ?, by := ?, within := ?) as found
        left join best_labels using (feature_id)
        order by found.rank
    """
    with open_atlas(atlas_path, wait) as atlas:
        feature_id = atlas.feature_id(feature)
        write_query(atlas.cursor(), query, kind, [feature_id, k, by, within])
