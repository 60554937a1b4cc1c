"""Dense architectures against SAELens's and dictionary_learning's: explained variance at equal L0.

On the demo's first model and text; others by ATLAS_BENCH_MODEL, ATLAS_BENCH_CORPUS and
ATLAS_BENCH_LAYER. The peers run by the Python interpreter that ATLAS_BENCH_PEERS names, if any.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint
from atlas.ingest.text.contexts import batches, contexts
from atlas.ingest.training.architectures import ARCHITECTURES
from atlas.ingest.training.trainee import Shape, TrainConfig, seeded
from atlas.workers import run_lanes
from tests.benchmarks import dense_peers
from tests.benchmarks.data import bench_corpus, bench_model

_PEERS: dict[str, dict[str, tuple[float, float]]] = {
    "SAELens": {"standard": (3e-2, 0.7), "gated": (3e-2, 0.7), "jumprelu": (3e-2, 0.17)},
    "dictionary_learning": {
        "standard": (3e-2, 0.7),
        "gated": (1e-2, 3.0),
        "jumprelu": (1e-2, 6.0),
        "p-anneal": (3e-2, 0.5),
    },
}
"""For each architecture the rate, the best of 3e-3, 1e-2, 3e-2 and 6e-2 at this size (the defaults
are for longer trainings), and where the search for the coefficient begins."""

_D_SAE, _L0, _BATCH, _STEPS, _CONTEXT = 512, 16, 2048, 300, 128
_HELD_OUT = 20_000
_RUNS = 5
"""Most trainings of a peer: it has no L0 to aim at, or misses it, and is interpolated between two
coefficients."""


def run(folder: Path) -> Iterator[str]:
    """One row for each architecture and library; the peers' at the L0 that ours has."""
    x = _activations()
    stored = folder / "normalised.pt"
    torch.save(_normalised(x), stored)
    yield (
        f"{Path(bench_model()).name}, d {x.shape[1]}, d_sae {_D_SAE}, {_STEPS} steps of {_BATCH}; "
        f"explained variance of {_HELD_OUT:,} tokens held out"
    )
    ours = {}
    for name in ("standard", "gated", "jumprelu", "p-anneal", "prolu"):
        ours[name] = l0, explained = _train(name, x)
        yield f"{name:10}{'atlas':21}L0 {l0:5.2f}   explained variance {explained:.4f}"
    python = os.environ.get("ATLAS_BENCH_PEERS", sys.executable)
    for library, architectures in _PEERS.items():
        module = {"SAELens": "sae_lens"}.get(library, library)
        if subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode:
            yield f"skipped: {library} is not installed for {python}; name another interpreter."
            continue
        for name, (lr, knob) in architectures.items():
            l0, explained = ours[name]
            task = dense_peers.Task(
                library=library,
                architecture=name,
                activations=str(stored),
                n_held_out=_HELD_OUT,
                d_sae=_D_SAE,
                steps=_STEPS,
                batch=_BATCH,
                lr=lr,
                knob=knob,
                l0=l0,
                most_runs=_RUNS,
            )
            found = _peer(python, folder, task)
            if isinstance(found, str):
                yield f"{name:10}{library:21}could not run: {found}"
                continue
            theirs = interpolated(found, l0)
            yield (
                f"{name:10}{library:21}L0 {l0:5.2f}   explained variance {theirs:.4f}   ours "
                f"{explained - theirs:+.4f}   from L0 "
                f"{', '.join(f'{one[1]:.2f}: {one[2]:.4f}' for one in found[:2])}"
            )


def interpolated(found: list[list[float]], l0: float) -> float:
    """Explained variance at that L0, by a line in log L0 through the two nearest trainings."""
    (_, l0_a, a), (_, l0_b, b) = found[0], found[min(1, len(found) - 1)]
    if l0_a == l0_b:
        return a
    return a + (b - a) * math.log(l0 / l0_a) / math.log(l0_b / l0_a)


def _train(name: str, x: Tensor) -> tuple[float, float]:
    """L0 and explained variance of ours, on the raw activations, with every default."""
    config = TrainConfig(
        d_sae=_D_SAE,
        k=_L0,
        train_tokens=_STEPS * _BATCH,
        batch_tokens=_BATCH,
        architecture=name,
    )
    shape = Shape((x.shape[1],), (x.shape[1],), same=True)
    sae = ARCHITECTURES[name].make(shape, config, seeded(0, name), torch.device("cpu"))
    sae.begin(x[_HELD_OUT : _HELD_OUT + 2**15], x[_HELD_OUT : _HELD_OUT + 2**15])
    order = torch.arange(_HELD_OUT, len(x))
    for i in range(_STEPS):
        at = torch.arange(i * _BATCH, (i + 1) * _BATCH) % len(order)
        batch = x[order[at]]
        run_lanes([sae.step(batch, batch, config.moment(i * _BATCH))])
    weights, unseen = sae.weights(), x[:_HELD_OUT]
    code = weights.encode(unseen)
    left = (unseen - weights.decode(code, unseen)).square().sum()
    spread = (unseen - unseen.mean(0)).square().sum()
    return int((code.value > 0).sum()) / len(unseen), 1 - float(left / spread)


def _peer(python: str, folder: Path, task: dense_peers.Task) -> list[list[float]] | str:
    file = folder / f"{task.library}-{task.architecture}.json"
    file.write_text(json.dumps(asdict(task)))
    child = subprocess.run(
        [python, str(Path(dense_peers.__file__)), str(file)],
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found: list[list[float]] = json.loads(child.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        return (child.stderr.strip().splitlines() or ["it said nothing"])[-1]
    return found


def _normalised(x: Tensor) -> Tensor:
    """Centred, with a mean norm of √d, as the peers expect activations."""
    x = x - x.mean(0)
    return x * (math.sqrt(x.shape[1]) / x.norm(dim=1).mean())


def _activations() -> Tensor:
    """Of the residual stream (n, d), in random order; a corpus that is too short is repeated."""
    model = LanguageModel.load(bench_model())
    layer = int(os.environ.get("ATLAS_BENCH_LAYER", min(2, model.n_layers - 1)))
    point, wanted = HookPoint(layer, "resid_post"), _HELD_OUT + _STEPS * _BATCH
    found: list[Tensor] = []
    texts = (document.text for document in bench_corpus())
    ids = (
        np.array(model.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int32)
        for text in texts
    )
    for batch in batches(contexts(ids, _CONTEXT, model.bos_id), _BATCH, model.pad_id):
        found.append(model.run(batch, [point])[0])
        if sum(map(len, found)) >= wanted:
            break
    x = torch.cat(found)
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
