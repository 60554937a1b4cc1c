"""Training of SAEs from text, against SAELens, eai-sparsify and dictionary_learning.

On the demo's first model and text; others by ATLAS_BENCH_MODEL, ATLAS_BENCH_LAYER (from 0),
ATLAS_BENCH_CORPUS and ATLAS_BENCH_TOKENS. On CUDA where there is a device. Needs the peers:
`make bench-peers`. What each is given and what is timed: `tests.benchmarks.peer_runs`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint
from atlas.ingest.text.contexts import batches, contexts
from atlas.ingest.text.corpus import Corpus
from tests.benchmarks.data import bench_corpus, bench_model
from tests.benchmarks.peer_runs import Task

_PEERS = {
    "SAELens": "sae_lens",
    "sparsify": "sparsify",
    "dictionary_learning": "dictionary_learning",
}
_D_SAE, _K, _BATCH, _CONTEXT = 1024, 16, 2048, 128
_HELD_OUT = 20_000
_ROUNDS = 3
"""Times that each library trains, in turns; the fastest counts, as other programs slow all down."""

_LEARNING_RATES = {
    ("SAELens", "topk"): 8e-3,
    ("sparsify", "topk"): 32e-3,
    ("dictionary_learning", "topk"): 16e-3,
    ("SAELens", "batchtopk"): 16e-3,
    ("dictionary_learning", "batchtopk"): 16e-3,
    ("SAELens", "matryoshka"): 8e-3,
    ("dictionary_learning", "matryoshka"): 16e-3,
}
"""Of the peers, whose defaults are for long trainings: the best power of two times .001 at 300,000
tokens of stories260k. Ours is its default."""


def run(folder: Path) -> Iterator[str]:
    """One row for each library and architecture, then ours against the best of the peers."""
    missing = [name for name, module in _PEERS.items() if not importlib.util.find_spec(module)]
    if missing:
        yield f"skipped: {', '.join(missing)} not installed here; `make bench-peers` brings them."
        return
    base = prepare(folder / "peers", int(os.environ.get("ATLAS_BENCH_TOKENS", "400000")))
    yield (
        f"{Path(base.model).name}, layer {base.layer}, d {base.d_model}, d_sae {base.d_sae}, k "
        f"{base.k}, batch {base.batch}, {base.tokens:,} tokens, {base.threads} threads, "
        f"{base.device}"
    )
    for architecture in dict.fromkeys(name for _, name in _LEARNING_RATES):
        rates = {"atlas": 0.0}
        rates |= {who: lr for (who, what), lr in _LEARNING_RATES.items() if what == architecture}
        found: dict[str, dict[str, float]] = {}
        for library in list(rates) * _ROUNDS:
            outcome = measure(base, library, architecture, rates[library])
            if isinstance(outcome, str):
                yield f"{architecture:12}{library:21}could not run: {outcome}"
            elif library not in found or outcome["tokens_per_s"] > found[library]["tokens_per_s"]:
                found[library] = outcome
        for library, outcome in found.items():
            yield (
                f"{architecture:12}{library:21}{outcome['tokens_per_s']:>10,.0f} tokens/s, "
                f"{outcome['tokens_per_cpu_s']:>8,.0f} per CPU second, "
                f"explained variance {outcome['explained_variance']:.4f}, "
                f"L0 {outcome['l0']:.2f}, peak {outcome['peak_bytes'] / 2**30:.2f} GiB"
            )
        yield from verdict(architecture, found)


def verdict(architecture: str, found: dict[str, dict[str, float]]) -> Iterator[str]:
    """Ours against the fastest and the best of the peers."""
    ours = found.pop("atlas", None)
    if not ours or not found:
        return
    speed = ours["tokens_per_s"] / max(one["tokens_per_s"] for one in found.values())
    best = max(one["explained_variance"] for one in found.values())
    yield (
        f"{architecture:12}{speed:.2f} times the fastest peer's tokens/s, explained variance "
        f"{ours['explained_variance'] - best:+.4f} against the best peer's"
    )


def prepare(folder: Path, tokens: int) -> Task:
    """What all trainings have in common: texts, and the activations of others that are held out."""
    folder.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = LanguageModel.load(bench_model(), device=device)
    layer = int(os.environ.get("ATLAS_BENCH_LAYER", min(2, model.n_layers - 1)))
    held_out, texts, pieces = _split(model, bench_corpus(), tokens)
    files = {name: folder / f"{name}.jsonl" for name in ("held_out", "texts", "pieces")}
    for name, lines in (("held_out", held_out), ("texts", texts), ("pieces", pieces)):
        files[name].write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    activations = folder / "held_out.pt"
    point = HookPoint(layer, "resid_post")
    torch.save(_activations(model, point, held_out), activations)
    return Task(
        library="",
        architecture="",
        model=str(Path(bench_model()).resolve()),
        block_path=model.block_path,
        layer=layer,
        d_model=model.width(point),
        texts=str(files["texts"]),
        pieces=str(files["pieces"]),
        held_out=str(activations),
        folder=str(folder / "sae"),
        d_sae=_D_SAE,
        k=_K,
        tokens=tokens // _BATCH * _BATCH,
        batch=_BATCH,
        context=_CONTEXT,
        threads=torch.get_num_threads(),
        device=device,
        lr=0.0,
    )


def measure(base: Task, library: str, architecture: str, lr: float) -> dict[str, float] | str:
    """The figures of one training in a child process, or why there are none."""
    folder = Path(base.folder).with_name(f"{library}-{architecture}")
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier round
    folder.mkdir()
    own = {"library": library, "architecture": architecture, "lr": lr, "folder": str(folder)}
    file = folder.with_suffix(".json")
    file.write_text(json.dumps(asdict(base) | own))
    environment = os.environ | {
        "OMP_NUM_THREADS": str(base.threads),
        "SPARSIFY_DISABLE_TRITON": "1",
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "disabled",
        "TOKENIZERS_PARALLELISM": "true",
    }
    child = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.peer_runs", str(file)],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return json.loads(child.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        said = [line for line in child.stderr.splitlines() if "Error" in line]
        return said[-1] if said else f"exit status {child.returncode}"


def _split(
    model: LanguageModel, corpus: Corpus, tokens: int
) -> tuple[list[str], list[str], list[str]]:
    """Texts that are held out, texts to train on, and these in pieces of one context each.

    There is a fifth more to train on than tokens are wanted, as the libraries leave out different
    ones; a corpus that is too short is repeated.
    """
    held_out: list[str] = []
    texts: list[str] = []
    pieces: list[str] = []
    n_held_out = n_trained = 0
    while n_trained < 1.2 * tokens:
        for document in corpus:
            found = model.tokenizer(document.text, add_special_tokens=False)
            n = len(found["input_ids"])
            if n_held_out < _HELD_OUT:
                held_out.append(document.text)
                n_held_out += n
                continue
            if document.text in held_out:
                continue
            texts.append(document.text)
            pieces.extend(_pieces(model, document.text))
            n_trained += n
            if n_trained >= 1.2 * tokens:
                break
    return held_out, texts, pieces


def _pieces(model: LanguageModel, text: str) -> Iterator[str]:
    """Of one context each, with room for a token before it."""
    offsets = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    starts = [start for start, _ in offsets["offset_mapping"]]
    bounds = [*starts[:: _CONTEXT - 1], len(text)]
    yield from (text[a:b] for a, b in pairwise(bounds) if b > a)


def _activations(model: LanguageModel, point: HookPoint, texts: Sequence[str]) -> torch.Tensor:
    """At the hook point, of all tokens of the texts."""
    ids = [model.tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts]
    documents = (np.array(one, dtype=np.int32) for one in ids)
    windows = contexts(documents, _CONTEXT, model.bos_id)
    found = batches(windows, _BATCH, model.pad_id)
    return torch.cat([model.run(batch, [point])[0] for batch in found]).cpu()
