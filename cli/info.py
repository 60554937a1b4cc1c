"""`atlas info`: what an atlas holds."""

from __future__ import annotations

import dataclasses
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

    from atlas.summary import Summary


@click.command(
    cls=AtlasCommand, examples=["atlas info demo.atlas", "atlas info demo.atlas -f json"]
)
@atlas_argument
@format_option("table", "json", "ndjson")
@wait_option
def command(atlas_path: Path, kind: str | None, wait: float) -> None:
    """Show what an atlas holds.

    Its corpus, models, SAEs with their quality, labels and size; with -f json the tables' rows too.
    """
    from atlas.summary import summary

    with open_atlas(atlas_path, wait) as atlas:
        found = summary(atlas)
    if kind in ("json", "ndjson"):
        write_object(dataclasses.asdict(found))
    else:
        _print(console(), found)


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
        _table(
            ("SAE", "features", "k", "L0", "explained variance", "CE recovered", "dead"),
            [
                (
                    one["sae"], one["d_sae"], one["k"], _figure(one["l0"], ".1f"),
                    _figure(one["explained_variance"], ".3f"),
                    _figure(one["ce_recovered"], ".3f"), _figure(one["dead_share"], ".1%"),
                )
                for one in found.saes
            ],
        )  # fmt: skip


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    table = plain_table()
    for i, name in enumerate(names):
        words = all(isinstance(row[i], str) and not row[i][:1].isdigit() for row in rows)
        table.add_column(name, justify="left" if words else "right", overflow="fold")
    for row in rows:
        table.add_row(*("–" if cell is None else _cell(cell) for cell in row))
    print_table(table)


def _cell(value: str | int) -> str:
    return f"{value:,}" if isinstance(value, int) else safe(value)


def _figure(value: float | None, form: str) -> str | None:
    return None if value is None else format(value, form)
