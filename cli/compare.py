"""`atlas compare`: how alike the features of SAEs are, against chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from atlas.cli._options import (
    AtlasCommand,
    atlas_argument,
    format_option,
    open_atlas,
    wait_option,
)
from atlas.cli._output import ROW_FORMATS, write_query
from atlas.cli._progress import Reporter
from atlas.cli._registries import list_methods, list_metrics

_WHOLE = "sae_a, sae_b, metric, value, calibrated, p, q, n"
_SEMANTIC = "sae_a, sae_b, subspace, metric, value, calibrated, p, q, subset_q, n"
_MORE = (
    "null_mean, null_sd, n_permutations, subset_mean, subset_sd, subset_p, n_subsets, dims_a,"
    " dims_b, method, run_id, pairing_id"
)


@click.command(
    cls=AtlasCommand,
    examples=[
        "atlas compare demo.atlas stdlib-a/3-resid_post stdlib-gpt2/3-resid_post",
        "atlas compare demo.atlas stdlib-a stdlib-gpt2 --metric svcca,rsa --plot layers.svg",
        "atlas compare demo.atlas 'stdlib-a/*-resid_post' stdlib-b --semantic -f csv",
        "atlas compare my.atlas gpt2 pythia-160m --ceiling 'gpt2/*-seed1' --floor gpt2-shuffled",
    ],
)
@atlas_argument
@click.argument("a")
@click.argument("b")
@click.option(
    "--metric",
    "metrics",
    default="mean_correlation,svcca,rsa",
    is_eager=True,
    callback=list_metrics,
    metavar="NAME,…|list",
    help="What to measure on the paired features; `list` describes all.",
)
@click.option(
    "--method",
    default="mutual",
    is_eager=True,
    callback=list_methods,
    metavar="NAME|list",
    help="How features are paired; `list` describes all.",
)
@click.option(
    "--over",
    type=click.Choice(["words", "tokens"]),
    default="words",
    help="What activations are correlated over; tokens need a common tokenizer.",
)
@click.option(
    "--min-joint",
    type=click.IntRange(min=1),
    default=20,
    metavar="N",
    help="Words on which both features of a pair are active, at least.",
)
@click.option(
    "--concepts-only",
    is_flag=True,
    help="Leave out features that fire on punctuation or white space (table non_concepts).",
)
@click.option("--semantic", is_flag=True, help="Compare the features of each category, too.")
@click.option(
    "--ceiling",
    metavar="NAME",
    help="SAEs like those of A from another seed, to read the values against.",
)
@click.option(
    "--floor",
    metavar="NAME",
    help="SAEs like those of A of a model with random weights, to read the values against.",
)
@click.option(
    "--permutations",
    type=click.IntRange(min=0),
    default=1000,
    metavar="N",
    help="Shufflings of the pairs behind p; 0 leaves p out.",
)
@click.option(
    "--subsets",
    type=click.IntRange(min=0),
    default=200,
    metavar="N",
    help="Draws of random features behind subset_p; 0 leaves it out.",
)
@click.option(
    "--shifts",
    type=click.IntRange(min=0),
    default=20,
    metavar="N",
    help="Circular shifts behind the p of each pair of features.",
)
@click.option("--seed", type=int, default=0, metavar="N", help="Of all that is drawn.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw the SAEs of A against those of B to a .svg, .png or .pdf file, one a metric.",
)
@format_option(*ROW_FORMATS)
@wait_option
def command(
    atlas_path: Path,
    a: str,
    b: str,
    metrics: tuple[str, ...],
    semantic: bool,
    ceiling: str | None,
    floor: str | None,
    permutations: int,
    subsets: int,
    plot: Path | None,
    kind: str | None,
    wait: float,
    **pairing: Any,
) -> None:
    """Pair the features of A and B and measure how alike the paired ones are.

    A and B are SAEs, models (all of their SAEs) or patterns of SAEs' names. `calibrated` is 0 where
    chance would give the same and 1 for identical spaces; q is the false discovery rate over all
    SAEs compared. What comes out is kept in the atlas (`from universality`, `from counterparts`),
    and shown again without computing.
    """
    reporter = Reporter()
    with reporter.task("loading", None, "steps"):
        from atlas.compare.settings import PairingSettings, Tests
        from atlas.compare.study import StudyOptions, compare
    if plot is not None:
        from atlas.plots import check_format

        check_format(plot)
    options = StudyOptions(
        a=a,
        b=b,
        metrics=metrics,
        settings=PairingSettings(**pairing),
        tests=Tests(permutations, subsets),
        semantic=semantic,
        ceiling=ceiling,
        floor=floor,
    )
    outcome = compare(atlas_path, options, progress=reporter, wait=wait)
    with open_atlas(atlas_path, wait) as atlas:
        first = _SEMANTIC if semantic else _WHOLE
        if ceiling or floor:
            first += ", floor, ceiling"
        write_query(
            atlas.cursor(),
            f"""
            select {first}, {_MORE}
            from comparison_cards
            where run_id = ?
            order by subspace != 'all', subspace, metric, sae_id_a, sae_id_b
            """,
            kind,
            [outcome.run_id],
        )
        if plot is not None:
            from atlas.plots import plot_comparisons

            rows = atlas.sql("from comparison_cards where run_id = ?", [outcome.run_id])
            records = [dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()]
            for path in plot_comparisons(records, plot):
                reporter.notice(f"{path} shows it.")
    if not outcome.added:
        reporter.notice("Kept from an earlier run; nothing was computed.")
