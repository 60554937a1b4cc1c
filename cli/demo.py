"""`atlas demo`: an atlas of three small language models, and a look around in it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atlas.cli._options import AtlasCommand, open_atlas, wait_option
from atlas.cli._output import console
from atlas.cli._progress import Reporter
from atlas.cli._text import amount, duration, one_line

if TYPE_CHECKING:
    from rich.console import Console

    from atlas.cards import FeatureCard
    from atlas.ingest.demo import Agreement, Finding


@click.command(cls=AtlasCommand, examples=["atlas demo", "atlas demo /tmp/demo.atlas"])
@click.argument(
    "atlas_path", metavar="[ATLAS]", type=click.Path(path_type=Path), default="demo.atlas"
)
@wait_option
def command(atlas_path: Path, wait: float) -> None:
    """Build an atlas of three small language models and show a few findings.

    The models come with the package, and the text is the documentation of Python's standard
    library on this machine, so nothing is downloaded. ATLAS is demo.atlas if left out.
    """
    started = time.monotonic()
    reporter = Reporter()
    with reporter.task("loading torch and transformers", None, "steps"):
        from atlas.ingest.demo import agreements, build_demo, findings, n_universal
    build_demo(atlas_path, progress=reporter, wait=wait)
    with open_atlas(atlas_path, wait) as atlas:
        with reporter.task("looking for features to show", None, "features"):
            found = findings(atlas)
            alike, universal = agreements(atlas), n_universal(atlas)
        holds = atlas.sql("from overview").to_arrow_table().to_pylist()[0]
    out = console()
    out.print(
        f"{atlas_path}: {holds['alive_features']:,} live features of {holds['saes']} SAEs in "
        f"{holds['models']} language models, and their {amount(holds['activations'])} activations "
        f"on {holds['words']:,} words.",
        markup=False,
        soft_wrap=True,
    )
    _print_findings(out, found)
    _print_agreement(out, alike, universal)
    if found:
        _print_next(out, atlas_path, found[0])
    reporter.notice(f"{atlas_path} was ready after {duration(time.monotonic() - started)}.")


def _print_findings(out: Console, found: list[Finding]) -> None:
    from rich.text import Text

    for finding in found:
        out.print()
        _print_feature(out, finding.feature)
        out.print(
            Text.assemble(
                "  The feature most like it in the model with another tokenizer, ",
                (f"r = {finding.r:.2f}", "bold"),
                ":",
            )
        )
        _print_feature(out, finding.counterpart, indent="  ")


def _print_agreement(out: Console, alike: list[Agreement], universal: int) -> None:
    if not alike:
        return
    out.print()
    out.print("How alike the models are, layer by layer", style="bold")
    for one in alike:
        out.print(
            f"  {one.model_a} and {one.model_b}, layer {one.layer_a}: features pair at a mean r of "
            f"{one.r:.2f}; their directions lie alike by {one.rsa:.2f} (calibrated RSA: 0 is "
            f"chance, q = {one.q:.2g})",
            markup=False,
            soft_wrap=True,
        )
    out.print(
        f"  {universal:,} features of {alike[0].model_a} have counterparts in all other models "
        "that are each other's counterparts, too.",
        soft_wrap=True,
    )


def _print_next(out: Console, path: Path, finding: Finding) -> None:
    from rich.text import Text

    first, other = finding.feature, finding.counterpart
    out.print()
    out.print(Text("What to type next", style="bold"))
    for command_line in (
        f"atlas show {path} {first.name}",
        f"atlas similar {path} {first.name} --within {other.model}",
        f"atlas search {path} {first.top_words[0].form}",
        f"atlas lineage {path} {first.name} --at-least 0.3",
        f"atlas sql {path} \"from relation('{first.name}', '{other.name}')\" -f ndjson",
        f"atlas sql {path} 'from universal_features order by weakest_r desc limit 5'",
        f"atlas compare {path} {first.model} {other.model} --plot layers.svg",
        f"atlas export {path} --features '{first.sae}/*' --with labels,examples --to out.parquet",
        f"atlas info {path} --plot frontier.svg",
        f"atlas view {path}",
        f"atlas sql {path}",
        f"atlas macros {path}",
    ):
        out.print(Text(f"  {command_line}"), soft_wrap=True)


def _print_feature(out: Console, card: FeatureCard, indent: str = "") -> None:
    from rich.text import Text

    label = f"  {one_line(card.labels[0].text)}" if card.labels else ""
    active = f"  active on {card.density:.2%} of tokens"
    out.print(
        Text.assemble(indent, (card.name, "bold cyan"), (label, "bold"), (active, "dim")),
        soft_wrap=True,
    )
    for context in card.contexts:
        out.print(Text(f"{indent}    {one_line(context.marked)}"), soft_wrap=True)
