"""`similar()` through SQL against the bare FAISS call, and against brute force in SQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np

import atlas
from atlas.neighbours import Neighbours
from tests.benchmarks.data import demo_atlas
from tests.benchmarks.timing import paired

_ROUNDS = 200
_K = 10


def run(folder: Path) -> Iterator[str]:
    """Single queries, by the fastest tenth of their times, then a batch."""
    with atlas.open(demo_atlas(folder)) as a:
        names = [name for (name,) in a.rows("select feature from feature_cards where alive")]
        neighbours = Neighbours(a.path, a.stamp, a.cursor)
        rng = np.random.default_rng(0)
        chosen = iter(rng.choice(names, 100_000).tolist())
        for by, column in (("activation", "signature"), ("decoder", "decoder")):
            of = (
                "where model = (select model from feature_cards limit 1)" if by == "decoder" else ""
            )
            vectors = a.sql(
                f"select {column} as v from vectors join feature_cards using (feature_id) {of}"
                " order by feature_id"
            ).to_arrow_table()
            matrix = np.stack(vectors["v"].to_numpy(zero_copy_only=False)).astype(np.float32)
            index = faiss.IndexFlatIP(matrix.shape[1])
            index.add(matrix)
            at = iter(rng.integers(len(matrix), size=100_000))

            def bare(index: faiss.Index = index, matrix: np.ndarray = matrix) -> object:
                return index.search(matrix[next(at)][None], _K)  # noqa: B023

            def through_sql(by: str = by) -> object:
                return a.rows(f"from similar('{next(chosen)}', k := {_K}, by := '{by}')")

            ours, theirs, _ = paired(through_sql, bare, _ROUNDS, fastest=True)
            yield (
                f"by {by:10} {len(matrix):,} x {matrix.shape[1]}: similar() {ours * 1e3:.2f} ms, "
                f"bare FAISS {theirs * 1e3:.2f} ms, {1e3 * (ours - theirs):+.2f} ms"
                + (", exact r of 80 candidates included" if by == "activation" else "")
            )

            def without_sql(by: str = by) -> object:
                return neighbours.similar([next(chosen)], _K, by, "")

            ours, theirs, _ = paired(through_sql, without_sql, _ROUNDS, fastest=True)
            yield (
                f"by {by:10} the same search without SQL {theirs * 1e3:.2f} ms; SQL adds "
                f"{1e3 * (ours - theirs):.2f} ms"
            )

            def brute_force(by: str = by) -> object:
                return a.rows(f"from similar_exact('{next(chosen)}', k := {_K}, by := '{by}')")

            ours, theirs, ratio = paired(through_sql, brute_force, 15)
            yield (
                f"by {by:10} similar() {ours * 1e3:.2f} ms, similar_exact() in SQL "
                f"{theirs * 1e3:.0f} ms: {1 / ratio:.0f} times as fast"
            )
        yield from _batch(a)


def _batch(a: atlas.Atlas) -> Iterator[str]:
    signatures = a.sql(
        "select signature as v from vectors join features using (feature_id) order by feature_id"
    ).to_arrow_table()
    matrix = signatures["v"].combine_chunks().flatten().to_numpy().reshape(-1, 512)
    index = faiss.IndexFlatIP(512)
    index.add(matrix)
    n = 2048

    def lateral() -> object:
        return a.rows(
            f"select count(*) from (select feature_id from features where alive limit {n}) f,"
            f" similar(f.feature_id, k := {_K}) s"
        )

    ours, theirs, ratio = paired(lateral, lambda: index.search(matrix[:n], 81), 5)
    yield (
        f"a join of {n:,} features with similar(): {ours:.2f} s, bare FAISS for their candidates "
        f"{theirs:.2f} s, ratio {ratio:.2f}"
    )
