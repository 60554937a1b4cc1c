"""`atlas ingest`: train SAEs on a model and add their features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from atlas.cli._options import AtlasCommand, atlas_argument, wait_option
from atlas.cli._progress import Reporter
from atlas.cli._registries import list_architectures, list_formats
from atlas.names import HOOKS


@click.command(
    cls=AtlasCommand,
    examples=[
        "atlas ingest my.atlas EleutherAI/pythia-70m --corpus stories.txt --layers 2-4",
        "atlas ingest my.atlas gpt2 --corpus NeelNanda/pile-10k --hook resid_pre --k 32",
        "atlas ingest my.atlas models/my-llama --arch topk,jumprelu --width 4x,16x --k 16,32",
        "atlas ingest my.atlas models/my-llama --arch crosscoder --layers 2 --with gpt2@6",
        "atlas ingest my.atlas gpt2 --layers 8 --seed 1 --variant seed1",
        "atlas ingest my.atlas gpt2 --layers 8 --randomize shuffle",
        "atlas ingest my.atlas gpt2 --sae jbloom/GPT2-Small-SAEs-Reformatted --layers 8",
        "atlas ingest my.atlas models/my-llama --sae trained/ --layers 3 --dry-run",
        "atlas ingest more.atlas gpt2 --sae my.atlas --corpus texts/ --reference-tokens 5M",
    ],
)
@atlas_argument
@click.argument("model")
@click.option(
    "--corpus",
    metavar="SRC",
    help="Text to train on: .txt, .jsonl[.gz], .json, .parquet, a folder of these, or a Hugging "
    "Face dataset. A new atlas takes its reference corpus from the beginning of it.  "
    "[default: the atlas's reference corpus]",
)
@click.option("--name", help="What the atlas calls the model.  [default: last part of MODEL]")
@click.option("--revision", help="Branch, tag or commit on the hub.")
@click.option(
    "--randomize",
    metavar="shuffle|init[=N]",
    help="Make the model's weights random, for the floor of comparisons: `shuffle` lets the "
    "entries of each tensor trade places, `init` draws all as before training. N tells which "
    "random model, 0 by default; it is called NAME-shuffled or NAME-random (and -N).",
)
@click.option("--layers", default="all", metavar="0,2-4|all", help="Layers to have SAEs of.")
@click.option(
    "--hook",
    default="resid_post",
    metavar="HOOK|IN:OUT",
    help=f"Where in the block: {', '.join(HOOKS)}; two for a transcoder.",
)
@click.option("--variant", help="Ends the SAEs' names, so that several of one layer can coexist.")
@click.option(
    "--arch",
    default="topk",
    is_eager=True,
    callback=list_architectures,
    metavar="NAME,…|list",
    help="Architectures to train, each with every width and k; `list` describes all.",
)
@click.option("--width", default="8x", metavar="1024,8x,…", help="Features, or times the input's.")
@click.option("--k", default="16", metavar="N,…", help="Mean number of active features aimed at.")
@click.option(
    "--set",
    "settings",
    metavar="NAME=NUMBER",
    multiple=True,
    help="A setting of an architecture; `--arch list` tells them.",
)
@click.option(
    "--strategy",
    metavar="NAME[=X]",
    help="layer-group=N, feature-aligned=X or end-to-end; `--arch list` describes them.",
)
@click.option(
    "--with",
    "partners",
    metavar="NAME@LAYERS",
    multiple=True,
    help="For a crosscoder: read these layers of a model in the atlas, too, at the last token of "
    "every word (of models with one tokenizer: at every token).",
)
@click.option("--log", metavar="DIR", help="Where to write the course of the training as NDJSON.")
@click.option(
    "--sae",
    metavar="PATH|REPO[:DIR]",
    help="Import published SAEs, or those of another atlas, in place of training some.",
)
@click.option(
    "--format",
    default="auto",
    is_eager=True,
    callback=list_formats,
    metavar="NAME|list",
    help="How --sae is written; auto recognises it, `list` tells all formats.",
)
@click.option(
    "--strict", is_flag=True, help="Refuse SAEs that do not do what their publisher declares."
)
@click.option("--train-tokens", default="2M", metavar="N", help="Tokens to train on.")
@click.option(
    "--reference-tokens",
    default="300k",
    metavar="N",
    help="Size of a new atlas's reference corpus, in this model's tokens; an atlas keeps the one "
    "it has.",
)
@click.option(
    "--context", default=128, metavar="N", type=int, help="Tokens the model reads at once."
)
@click.option(
    "--seed", default=0, metavar="N", type=int, help="Decides all that is random but --randomize."
)
@click.option("--device", default="auto", metavar="auto|cpu|cuda", help="Where to compute.")
@click.option("--block-path", metavar="PATH", help="Where the model's blocks are: model.layers.")
@click.option("--text-field", metavar="NAME", help="Field of the corpus's records with the text.")
@click.option("--licence", help="The text's licence, kept with a new atlas's reference corpus.")
@click.option("--dry-run", is_flag=True, help="Check everything, show the plan, and stop.")
@wait_option
def command(atlas_path: Path, dry_run: bool, wait: float, **options: Any) -> None:
    """Train or import SAEs of a language model, and add their features to ATLAS.

    MODEL is a Hugging Face id or a folder in that form. ATLAS is made if it is not there. Killed at
    any point and given again, the command goes on where it stopped.
    """
    reporter = Reporter()
    with reporter.task("loading", None, "steps"):
        from atlas.ingest.plan import IngestOptions
        from atlas.ingest.run import ingest, prepare
    chosen = IngestOptions(**options)
    if dry_run:
        for key, value in prepare(atlas_path, chosen, wait=wait).summary().items():
            click.echo(f"{key.strip() and key + ':':<16}{value}")
        return
    outcome = ingest(atlas_path, chosen, progress=reporter, wait=wait)
    if not outcome.added:
        reporter.notice(f"{atlas_path} has these SAEs already; nothing to do.")
    for name in outcome.saes:
        click.echo(name)
