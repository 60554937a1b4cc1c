"""Best partners between two layers against dense products of z-scores, and SciPy's product."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from atlas.compare.activity import Activity
from atlas.compare.products import best_partners
from tests.benchmarks.timing import paired

_UNITS, _WIDTH, _L0 = 30_000, 32_768, 16
_BLOCK = 100
"""Columns of B at once, as Lan et al. take them."""
_BLOCKS = 3
"""Of 328: the dense product takes minutes, each of its blocks the same."""


def run(folder: Path) -> Iterator[str]:
    """Each in a process of its own, for its memory; then ours and SciPy's in turn, for time."""
    cores = os.cpu_count() or 1
    yield f"{_WIDTH:,} x {_WIDTH:,} features, {_UNITS:,} tokens, L0 {_L0}, strengths log-normal"
    dense, ours, bare = (_child(role, folder) for role in ("dense", "ours", "bare"))
    n_blocks = -(-_WIDTH // _BLOCK)
    dense_seconds = dense["once"] + n_blocks * dense["block"]
    matrix = 4 * _UNITS * _WIDTH / 1e9
    dense_gb = dense["peak"] + matrix
    yield (
        f"dense, {cores} threads: {dense_seconds:.0f} s = {dense['once']:.1f} s to standardise "
        f"and {n_blocks} blocks of {_BLOCK} columns at {dense['block']:.2f} s, the fastest "
        f"of {_BLOCKS} that were run; {dense_gb:.1f} GB = {dense['peak']:.1f} GB measured without "
        f"B, whose matrix takes {matrix:.1f} GB"
    )
    yield (
        f"ours, {cores} threads: {ours['seconds']:.3f} s with best partners both ways and joint "
        f"counts: {dense_seconds / ours['seconds']:,.0f} times as fast; {ours['peak']:.2f} GB, "
        f"1/{dense_gb / ours['peak']:.0f} of the memory ({ours['loaded']:.2f} GB of it before the "
        "call: Python, its libraries, compiled code, data)"
    )
    yield (
        f"SciPy's product alone: {bare['peak']:.2f} GB, of these {bare['loaded']:.2f} GB before "
        "the call"
    )
    ours_seconds, bare_seconds, ratio = _in_turn()
    yield (
        f"one thread, CPU time: ours {ours_seconds:.3f} s, SciPy's A.T.tocsr() @ B "
        f"{bare_seconds:.3f} s, ratio {ratio:.2f}"
    )
    yield _differences(folder)


def _child(role: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.pairing", role, str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def _in_turn() -> tuple[float, float, float]:
    """Ours anew each time: what an Activity has once computed, it keeps."""
    (a, by_feature_a), (b, by_feature_b) = (_layer(seed) for seed in (0, 1))
    a, b = a.astype(np.float32), b.astype(np.float32)

    def ours() -> object:
        return best_partners(_activity(by_feature_a), _activity(by_feature_b), 1, threads=1)

    return paired(ours, lambda: a.T.tocsr() @ b, 9, fastest=True, clock=time.process_time)


def _differences(folder: Path) -> str:
    """Of the columns of B that the dense product was run for."""
    dense, ours = np.load(folder / "dense.npz"), np.load(folder / "ours.npz")
    r, partner = ours["r"][: len(dense["r"])], ours["partner"][: len(dense["r"])]
    live = partner >= 0
    difference = np.abs(r - dense["r"])[live].max()
    same = (partner == dense["partner"])[live].mean()
    return (
        f"largest difference of r to the dense product's, over {live.sum()} features of B: "
        f"{difference:.1e}; same partner: {same:.1%}"
    )


def _layer(seed: int) -> tuple[Any, Any]:
    """q of one synthetic layer as CSR and as CSC arrays (units, features)."""
    rng = np.random.default_rng(seed)
    n = _UNITS * _L0
    q = np.round(1024 * rng.lognormal(size=n)).astype(np.int32) + 1
    place = (np.repeat(np.arange(_UNITS), _L0), rng.integers(0, _WIDTH, n))
    layer = scipy.sparse.csr_array((q, place), shape=(_UNITS, _WIDTH))
    layer.sum_duplicates()
    by_feature = layer.tocsc()
    by_feature.sort_indices()
    return layer, by_feature


def _activity(columns: Any) -> Activity:
    return Activity(
        _UNITS,
        columns.indptr.astype(np.int64),
        columns.indices.astype(np.int32, copy=False),
        columns.data,
    )


def _dense(folder: Path) -> dict[str, float]:
    """Lan et al.'s step 3: z-scores of columns, products by blocks, the best A of each B.

    Standardised in place, which spares the two matrices of activations beside those of z-scores.
    """
    import torch

    def standardised(columns: Any) -> torch.Tensor:
        z = torch.from_numpy(columns.astype(np.float32).toarray())
        deviation = z.std(0) + 1e-8
        z -= z.mean(0)
        z /= deviation
        return z

    (_, a), (_, b) = (_layer(seed) for seed in (0, 1))
    started = time.perf_counter()
    z_a = standardised(a)
    once = 2 * (time.perf_counter() - started)
    found, seconds = [], []
    for first in range(0, _BLOCKS * _BLOCK, _BLOCK):
        z_b = standardised(b[:, first : first + _BLOCK])
        started = time.perf_counter()
        found.append((z_a.T @ z_b / _UNITS).max(0))
        seconds.append(time.perf_counter() - started)
    # Their deviation has n − 1 below, their product n.
    r = torch.cat([best.values for best in found]) * (_UNITS / (_UNITS - 1))
    partner = torch.cat([best.indices for best in found])
    np.savez(folder / "dense.npz", r=r.numpy(), partner=partner.numpy())
    return {"once": once, "block": min(seconds), "peak": _peak()}


def _ours(folder: Path) -> dict[str, float]:
    (_, a), (_, b) = (_layer(seed) for seed in (0, 1))
    tiny = _activity(a[:, :10])
    best_partners(tiny, tiny, 1)  # compiles, or reads what was compiled
    loaded = _peak()
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        found = best_partners(_activity(a), _activity(b), 1)
        seconds.append(time.perf_counter() - started)
    np.savez(folder / "ours.npz", r=found.r_b, partner=found.partner_b)
    return {"seconds": min(seconds), "peak": _peak(), "loaded": loaded}


def _bare(_: Path) -> dict[str, float]:
    (a, _), (b, _) = (_layer(seed) for seed in (0, 1))
    a, b = a.astype(np.float32), b.astype(np.float32)
    loaded = _peak()
    product = a.T.tocsr() @ b
    return {"loaded": loaded, "peak": _peak(), "entries": product.nnz}


def _peak() -> float:
    """Largest resident set of this process so far, in GB."""
    import resource

    status = Path("/proc/self/status")
    if status.exists():  # of this program alone, not of what started it
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    role = {"dense": _dense, "ours": _ours, "bare": _bare}[sys.argv[1]]
    print(json.dumps(role(Path(sys.argv[2]))))
