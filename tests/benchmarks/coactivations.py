"""Joint activity of two layers: our loops, SciPy's sparse product, dense matmuls and a SQL join.

Every way runs in a process of its own, which tells its time and its largest memory. Ours counts
joint firings, joint strong firings and Σ q_a·q_b of all pairs, and returns those with 20 firings.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

FEATURES, L0, TOKENS = 24_576, 32, 1_000_000
FEW_TOKENS, SQL_TOKENS, DENSE_TOKENS = 200_000, 20_000, 2_048
MIN_JOINT = 20
BLOCKS, BLOCKS_RUN = 12, 3
"""SciPy multiplies by a twelfth of A at a time, as products fill memory, and by three of them."""


def run(folder: Path) -> Iterator[str]:
    """Features as often as one another, then as unevenly as those of a trained SAE."""
    kinds: tuple[tuple[str, Callable[[np.random.Generator], np.ndarray], int], ...] = (
        ("even", lambda rng: rng.integers(0, FEATURES, (TOKENS, L0), dtype=np.int32), TOKENS),
        ("uneven", _uneven, FEW_TOKENS),
    )
    for kind, draw, scipy_tokens in kinds:
        for side in "ab":
            _write(folder / f"{kind}-{side}", draw, seed=ord(side))
        ours = min((_child("ours", folder, kind, TOKENS) for _ in range(3)), key=_seconds)
        alone = min((_child("ours", folder, kind, TOKENS, 1) for _ in range(2)), key=_seconds)
        yield (
            f"{kind} features, 2 x {FEATURES:,} on {TOKENS:,} tokens of L0 {L0}: {_said(ours)} on "
            f"{os.cpu_count()} threads, {_said(alone)} on one; {ours['kept']:,} pairs kept"
        )
        scipy = _child("scipy", folder, kind, scipy_tokens)
        same = alone if scipy_tokens == TOKENS else _child("ours", folder, kind, scipy_tokens, 1)
        yield (
            f"  SciPy, {scipy_tokens:,} tokens, by features from a quarter of A's: one product "
            f"{scipy['one']:.1f} s, all three {_said(scipy)}; ours on one thread is "
            f"{scipy['one'] / same['seconds']:.1f} and {scipy['seconds'] / same['seconds']:.1f} "
            "times as fast"
        )
        if kind == "even":
            dense = _child("dense", folder, kind, DENSE_TOKENS)
            whole = dense["seconds"] * TOKENS / DENSE_TOKENS
            yield (
                f"  dense one-hot matmul, firings alone: {_said(dense)} for {DENSE_TOKENS:,} "
                f"tokens, so {whole:,.0f} s for all by extrapolation; ours is "
                f"{whole / ours['seconds']:,.0f} times as fast"
            )
            sql = _child("sql", folder, kind, SQL_TOKENS)
            small = _child("ours", folder, kind, SQL_TOKENS)
            yield (
                f"  SQL self-join, {SQL_TOKENS:,} tokens: {_said(sql)}; ours {_said(small)}, "
                f"{sql['seconds'] / small['seconds']:.0f} times as fast"
            )


def _uneven(rng: np.random.Generator) -> np.ndarray:
    """(TOKENS, L0): the rates of features span three decades."""
    return (FEATURES * rng.random((TOKENS, L0), np.float32) ** 2.5).astype(np.int32)


def _write(path: Path, draw: Callable[[np.random.Generator], np.ndarray], seed: int) -> None:
    """Made-up activations by token: path-row.npy, path-feature.npy and path-q.npy."""
    rng = np.random.default_rng(seed)
    feature = draw(rng)
    feature.sort(axis=1)
    first = np.ones(feature.shape, bool)
    first[:, 1:] = np.diff(feature, axis=1) != 0
    feature = feature[first]
    q = np.minimum(rng.lognormal(7, 1, len(feature)), 32_767).astype(np.int32) + 1
    row = np.concatenate([[0], np.cumsum(first.sum(1))])
    for name, values in (("row", row), ("feature", feature), ("q", q)):
        np.save(f"{path}-{name}.npy", values)


def _child(way: str, folder: Path, kind: str, n_tokens: int, threads: int = 0) -> dict[str, Any]:
    """What a process that computes one `way` says."""
    given = [way, str(folder / kind), str(n_tokens), str(threads or os.cpu_count())]
    command = [sys.executable, "-m", "tests.benchmarks.coactivations", *given]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _seconds(found: dict[str, Any]) -> float:
    return float(found["seconds"])


def _said(found: dict[str, Any]) -> str:
    return f"{found['seconds']:.1f} s and {found['peak'] / 2**30:.1f} GB"


# -- in the child -------------------------------------------------------------------------------


def _read(path: str, n_tokens: int) -> Any:
    """The first tokens' activations, a CSR array of int32 (n_tokens, FEATURES)."""
    import scipy.sparse

    row = np.load(f"{path}-row.npy")[: n_tokens + 1]
    feature, q = (np.load(f"{path}-{name}.npy", "r")[: row[-1]] for name in ("feature", "q"))
    return scipy.sparse.csr_array((np.array(q), np.array(feature), row), shape=(n_tokens, FEATURES))


def _ours(path: str, n_tokens: int, threads: int) -> dict[str, Any]:
    from atlas.compare.activity import Activity
    from atlas.lineage.joint import joint_activity

    def activity(side: str) -> Activity:
        columns = _read(f"{path}-{side}", n_tokens).tocsc()
        indptr = columns.indptr.astype(np.int64)
        return Activity(n_tokens, indptr, columns.indices.astype(np.int32), columns.data)

    a, b = activity("a"), activity("b")
    few = Activity(9, np.array([0, 1]), np.zeros(1, np.int32), np.ones(1, np.int32))
    list(joint_activity(few, few, 1, device="cpu"))  # Compiles, or reads what was compiled.
    started = time.perf_counter()
    kept = sum(len(one.a) for one in joint_activity(a, b, MIN_JOINT, device="cpu", threads=threads))
    return {"seconds": time.perf_counter() - started, "kept": kept}


def _scipy(path: str, n_tokens: int, threads: int) -> dict[str, Any]:
    A, B = _read(f"{path}-a", n_tokens), _read(f"{path}-b", n_tokens)

    def product(kind: str) -> float:
        X, Y = ((_strong(Z) if kind == "strong" else Z).astype(np.float32) for Z in (A, B))
        if kind != "sums":
            X.data[:], Y.data[:] = 1, 1
        started = time.perf_counter()
        rows = X.T.tocsr()
        transposing = time.perf_counter() - started
        seconds = 0.0
        for block in range(0, BLOCKS, BLOCKS // BLOCKS_RUN):
            span = slice(block * FEATURES // BLOCKS, (block + 1) * FEATURES // BLOCKS)
            part = rows[span]
            started = time.perf_counter()
            part @ Y
            seconds += time.perf_counter() - started
        # Blocks of uneven features differ in work: by their share of it.
        share = sum(
            rows.indptr[(block + 1) * FEATURES // BLOCKS] - rows.indptr[block * FEATURES // BLOCKS]
            for block in range(0, BLOCKS, BLOCKS // BLOCKS_RUN)
        )
        return transposing + seconds * rows.nnz / share

    found = {kind: product(kind) for kind in ("sums", "firings", "strong")}
    return {"seconds": sum(found.values()), "one": found["sums"]}


def _strong(Z: Any) -> Any:
    """The entries that exceed a fifth of their column's largest."""
    import scipy.sparse

    entries = Z.tocoo()
    kept = 5 * entries.data.astype(np.int64) > Z.max(0).toarray().ravel()[entries.col]
    places = (entries.row[kept], entries.col[kept])
    return scipy.sparse.csr_array((entries.data[kept], places), shape=Z.shape)


def _dense(path: str, n_tokens: int, threads: int) -> dict[str, Any]:
    import torch

    torch.set_num_threads(threads)
    x, y = (
        torch.from_numpy((_read(f"{path}-{side}", n_tokens) > 0).astype(np.float32).toarray())
        for side in "ab"
    )
    sums = torch.zeros(FEATURES, FEATURES)
    sums.addmm_(x[:64].T, y[:64])  # Memory is there, threads are awake.
    started = time.perf_counter()
    sums.addmm_(x.T, y)
    return {"seconds": time.perf_counter() - started}


def _sql(path: str, n_tokens: int, threads: int) -> dict[str, Any]:
    import duckdb
    import pyarrow as pa

    con = duckdb.connect(config={"threads": threads})
    for side in "ab":
        entries = _read(f"{path}-{side}", n_tokens).tocoo()
        con.register(
            "rows", pa.table({"token": entries.row, "feature": entries.col, "q": entries.data})
        )
        con.execute(f"create table {side} as from rows order by feature, token")
        con.execute(f"alter table {side} add column strong boolean")
        con.execute(
            f"update {side} set strong = 5 * q > largest from (select feature, max(q) as largest"
            f" from {side} group by feature) as m where m.feature = {side}.feature"
        )
    started = time.perf_counter()
    con.execute(
        """
        select a.feature, b.feature, count(*), count(*) filter (a.strong and b.strong),
            sum(a.q::bigint * b.q)
        from a
        join b using (token)
        group by a.feature, b.feature
        having count(*) >= ?
        """,
        [MIN_JOINT],
    ).fetchall()
    return {"seconds": time.perf_counter() - started}


if __name__ == "__main__":
    way, path, n_tokens, threads = sys.argv[1:]
    found = {"ours": _ours, "scipy": _scipy, "dense": _dense, "sql": _sql}[way](
        path, int(n_tokens), int(threads)
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(found | {"peak": peak}))
