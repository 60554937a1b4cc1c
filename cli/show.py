"""`atlas show`: the card of one feature."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atlas.cli._options import (
    AtlasCommand,
    atlas_argument,
    count_option,
    format_option,
    open_atlas,
    wait_option,
)
from atlas.cli._output import console, print_table, write_object
from atlas.cli._progress import Reporter
from atlas.cli._text import one_line, token

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from atlas.cards import Context, FeatureCard, Written

_SHADES = ("#fff3d6", "#ffe0a3", "#ffc766", "#ffa329", "#f07800")
"""Backgrounds from weak to strong activation, all light enough for black text."""
_SHOWN = 8


@click.command(
    cls=AtlasCommand,
    examples=[
        "atlas show demo.atlas stdlib-a/1-resid_post/12",
        "atlas show demo.atlas stdlib-a/1-resid_post/12 --similar -n 20",
        "atlas show demo.atlas stdlib-a/1-resid_post/12 -f json",
    ],
)
@atlas_argument
@click.argument("feature")
@count_option(8, "contexts")
@click.option("--similar", is_flag=True, help="Add the nearest feature in every other SAE.")
@format_option("table", "json", "ndjson")
@wait_option
def command(
    atlas_path: Path, feature: str, count: int, similar: bool, kind: str | None, wait: float
) -> None:
    """Show what is known of one feature.

    FEATURE is a name, MODEL/LAYER-HOOK/INDEX, or an id. Contexts are shaded by activation on a
    terminal; in a pipe, « and » mark the token where it peaks. After a word stands on how many of
    its occurrences the feature is active. Of a transcoder or a crosscoder stand the hook points it
    reads and writes, with each one's share of the decoder's norms.
    """
    from atlas.cards import card

    with open_atlas(atlas_path, wait) as atlas:
        if similar:
            with Reporter(keep=False).task("nearest features", None, "features"):
                found = card(atlas, feature, contexts=count, similar=True)
        else:
            found = card(atlas, feature, contexts=count)
    if kind in ("json", "ndjson"):
        write_object(dataclasses.asdict(found))
    else:
        _print(console(), found)


def _print(out: Console, card: FeatureCard) -> None:
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, text in _facts(card):
        facts.add_row(name, Text(text))
    out.print(Text(card.name, style="bold"), Text(f"(id {card.feature_id})", style="dim"))
    print_table(facts)
    if card.contexts:
        out.print()
    for context in card.contexts:
        head = Text(f"{context.stratum:>4} {context.activation:9.4g}  ", style="dim")
        shaded = _shaded(context, card.max_activation)
        out.print(head + (shaded if out.is_terminal else Text(one_line(context.marked))))
    if card.neighbours:
        near = Table.grid(padding=(0, 2))
        for one in card.neighbours:
            near.add_row(
                Text("similar", style="bold"),
                f"{one.score:.3f}",
                Text(one.feature),
                Text(one_line(one.label or "")),
            )
        out.print()
        print_table(near)


def _facts(card: FeatureCard) -> Iterator[tuple[str, str]]:
    writes = tuple(one.site for one in card.writes)
    if len(writes) > 1 or writes != card.reads:
        yield "reads", "  ".join(_short(site, card) for site in card.reads)
        yield "writes", "  ".join(_short(one.site, card) + _share(one) for one in card.writes)
    for label in card.labels:
        score = "no score" if label.score is None else f"{label.score:.2f} {label.scored_by or ''}"
        yield "label", f"{one_line(label.text)}  ({label.method}, {score.strip()})"
    if card.alive:
        yield "density", f"{card.density:.3%} of tokens ({card.n_active:,})"
        yield "activation", f"max {card.max_activation:.4g}, mean {card.mean_activation:.4g}"
        yield "quantiles", "  ".join(f"{p}: {v:.3g}" for p, v in card.quantiles.items())
    else:
        yield "density", "0: dead, never active on the reference corpus"
    if card.top_words:
        shown = card.top_words[:_SHOWN]
        yield (
            "words",
            "  ".join(f"{one_line(w.form)} ({w.n_active:,}/{w.n_words:,})" for w in shown),
        )
    for name, effects in (("promotes", card.promotes), ("suppresses", card.suppresses)):
        if effects:
            yield name, "  ".join(f"{token(e.text)} {e.effect:+.2f}" for e in effects[:_SHOWN])


def _short(site: str, card: FeatureCard) -> str:
    """Without the model where that is the card's."""
    return site.removeprefix(f"{card.model}/")


def _share(one: Written) -> str:
    """Nothing for the only one, which has it all."""
    return "" if one.share in (None, 1) else f" ({one.share:.1%} of the norm)"


def _shaded(context: Context, strongest: float) -> Text:
    """The context's text, darker where the activation is a larger share of `strongest`."""
    from rich.text import Text

    text = Text()
    for piece in context.pieces:
        style = ""
        if piece.activation > 0 and strongest > 0:
            share = min(piece.activation / strongest, 1.0)
            style = f"black on {_SHADES[min(int(share * len(_SHADES)), len(_SHADES) - 1)]}"
        text.append(one_line(piece.text), style=style)
    return text
