"""`atlas info`: what an atlas holds, and what it says of one SAE."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atlas.cli._options import (
    AtlasCommand,
    atlas_argument,
    format_option,
    open_atlas,
    wait_option,
)
from atlas.cli._output import console, plain_table, print_table, write_object
from atlas.cli._text import amount, safe, size

if TYPE_CHECKING:
    from rich.console import Console

    from atlas.summary import Record, SaeSummary, Summary

_VERDICTS = ("conforms", "undeclared")
"""What `saes.quality` says where nothing deviates."""

_BAR = 40
_NUMBER = re.compile(r"-?[\d.,]+(e[-+]\d+)?[%kMG]?")


@click.command(
    cls=AtlasCommand,
    examples=[
        "atlas info demo.atlas",
        "atlas info demo.atlas stdlib-a/1-resid_post",
        "atlas info demo.atlas --plot frontier.svg",
        "atlas info demo.atlas -f json",
    ],
)
@atlas_argument
@click.argument("sae", required=False)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw the loss of all SAEs against their L0 to a .svg, .png or .pdf file.",
)
@click.option(
    "--metric",
    metavar="NAME",
    help="What --plot draws: ce_spliced, kl, explained_variance, …  [default: ce_spliced, or fvu "
    "where no model predicts the next token]",
)
@format_option("table", "json", "ndjson")
@wait_option
def command(
    atlas_path: Path,
    sae: str | None,
    plot: Path | None,
    metric: str | None,
    kind: str | None,
    wait: float,
) -> None:
    """Show what an atlas holds, or all metrics of one SAE.

    Without SAE: corpus, models, SAEs with their quality, labels and size; with -f json the tables'
    rows too. With SAE, a name or id: what each metric says and means, its features' densities, what
    k-sparse probes find in it, and which features absorb first letters.
    """
    if metric is not None and plot is None:
        raise click.UsageError("--metric says what --plot draws; give --plot FILE too.")
    if sae is not None and plot is not None:
        raise click.UsageError("--plot draws all SAEs; leave out SAE.")
    with open_atlas(atlas_path, wait) as atlas:
        if plot is not None:
            from atlas.plots import plot_frontier

            n_drawn = plot_frontier(atlas, plot, metric)
            click.echo(f"{plot} shows {n_drawn} SAE{'s' * (n_drawn != 1)}.", err=True)
            return
        from atlas.summary import Summary, sae_summary, summary

        found = summary(atlas) if sae is None else sae_summary(atlas, sae)
        # While it is open, an atlas tells that it is too old for a column that is not there.
        if kind in ("json", "ndjson"):
            write_object(dataclasses.asdict(found))
        elif isinstance(found, Summary):
            _print(console(), found)
        else:
            _print_sae(console(), found)


def _print(out: Console, found: Summary) -> None:
    holds = found.holds
    out.print(f"{found.path}  ({size(found.n_bytes)}, format {found.format})", markup=False)
    if holds["corpus"] is not None:
        out.print(
            f"corpus {safe(holds['corpus'])}: {holds['documents']:,} documents, "
            f"{holds['words']:,} words, {holds['characters']:,} characters",
            markup=False,
        )
    out.print(
        f"{holds['features']:,} features of {holds['saes']} SAEs, {holds['alive_features']:,} "
        f"alive, {amount(holds['activations'])} activations stored"
    )
    for one in found.labels:
        score = "" if one["mean_score"] is None else f", mean score {one['mean_score']:.2f}"
        out.print(f"labels by {safe(one['method'])}: {one['labels']:,}{score}", markup=False)
    if found.models:
        out.print()
        _table(
            ("model", "type", "layers", "d_model", "parameters", "tokenizer", "tokens", "SAEs"),
            [
                (
                    one["model"], one["model_type"], one["n_layers"], one["d_model"],
                    amount(one["n_parameters"]), one["tokenizer"], one["corpus_tokens"],
                    one["n_saes"],
                )
                for one in found.models
            ],
        )  # fmt: skip
    if found.saes:
        out.print()
        names = (
            "SAE", "architecture", "features", "k", "L0", "explained variance", "CE recovered",
            "dead",
        )  # fmt: skip
        imported = any(one["quality"] is not None for one in found.saes)
        _table(
            (*names, "quality") if imported else names,
            [_sae_row(one) + ((_verdict(one),) if imported else ()) for one in found.saes],
        )


def _sae_row(one: Record) -> tuple[Any, ...]:
    return (
        one["sae"], one["architecture"], one["d_sae"], one["k"], _figure(one["l0"], ".1f"),
        _figure(one["explained_variance"], ".3f"), _figure(one["ce_recovered"], ".3f"),
        _figure(one["dead_share"], ".1%"),
    )  # fmt: skip


def _verdict(one: Record) -> str | None:
    """'deviates' for the sentence that `atlas info ATLAS SAE` shows."""
    quality: str | None = one["quality"]
    return quality if quality is None or quality in _VERDICTS else "deviates"


def _print_sae(out: Console, found: SaeSummary) -> None:
    card = found.card
    reads, writes = (" + ".join(card[name]) for name in ("reads", "writes"))
    k = "" if card["k"] is None else f", k {card['k']}"
    out.print(safe(card["sae"]), markup=False, style="bold")
    out.print(
        f"{card['architecture']}: {card['d_sae']:,} features{k}; reads {reads}, writes "
        f"{'the same' if reads == writes else writes}",
        markup=False,
    )
    tokens = "" if card["train_tokens"] is None else f" on {amount(card['train_tokens'])} tokens"
    out.print(safe(f"source: {card['source']}{tokens}"), markup=False)
    if card["quality"] is not None:
        out.print(safe(f"quality: {card['quality']}"), markup=False)
    declared = any(one["declared"] is not None for one in found.metrics)
    if found.metrics:
        out.print()
        _table(
            ("metric", "value", *(["declared"] if declared else []), "better", "meaning"),
            [
                (
                    one["metric"], _measured(one["value"]),
                    *([_measured(one["declared"])] if declared else []),
                    one["better"] if one["better"] != "neither" else "", one["definition"],
                )
                for one in found.metrics
            ],
        )  # fmt: skip
    if found.density:
        out.print()
        most = max(one["features"] for one in found.density)
        _table(
            ("active on", "features", ""),
            [
                (_range(one), one["features"], "█" * round(_BAR * one["features"] / most))
                for one in found.density
            ],
        )
    if found.probes:
        out.print()
        _print_probes(found.probes)
    if found.absorptions:
        out.print()
        _table(
            ("letter", "words", "fully absorbed", "fraction", "main features", "absorbed by"),
            [
                (
                    one["letter"], one["n_words"], f"{one['full_share']:.1%}",
                    f"{one['fraction']:.3f}", _indexes(one["main_features"]),
                    _indexes(one["absorbers"]),
                )
                for one in found.absorptions
            ],
        )  # fmt: skip


def _print_probes(probes: Sequence[Record]) -> None:
    """A line for each property: its balanced accuracy with each k, and the first feature."""
    sizes = sorted({one["k"] for one in probes})
    scores: dict[str, dict[int, Record]] = {}
    for one in probes:
        scores.setdefault(one["property"], {})[one["k"]] = one
    _table(
        ("property of tokens", *(f"accuracy, k {k}" for k in sizes), "feature"),
        [
            (
                name,
                *(_figure(by_k[k]["balanced_accuracy"], ".3f") for k in sizes),
                _indexes(by_k[sizes[0]]["features"]),
            )
            for name, by_k in scores.items()
        ],
    )


def _indexes(features: Sequence[str]) -> str:
    """The numbers that end the features' names, which all begin alike."""
    return " ".join(name.rpartition("/")[2] for name in features)


def _range(one: Record) -> str:
    if not one["below"]:
        return "no token"
    return f"{one['at_least']:.2g} – {min(one['below'], 1):.2g}"


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    table = plain_table()
    for i, name in enumerate(names):
        cells = [row[i] for row in rows if row[i] is not None]
        numbers = all(isinstance(cell, int) or _NUMBER.fullmatch(cell) for cell in cells)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*("–" if cell is None else _cell(cell) for cell in row))
    print_table(table)


def _cell(value: str | int) -> str:
    return f"{value:,}" if isinstance(value, int) else safe(value)


def _measured(value: float | None) -> str | None:
    """Four digits, but a count in full."""
    if value is None:
        return None
    return f"{value:,.0f}" if value >= 1 and value == int(value) else f"{value:#.4g}"


def _figure(value: float | None, form: str) -> str | None:
    return None if value is None else format(value, form)
