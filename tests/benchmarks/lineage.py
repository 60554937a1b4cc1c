"""`lineage()` of one feature, and `lineages()` of all, over 12 layers of 16k features with 5 edges.

The bars: 100 ms for one feature, 2 s for all.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

import atlas
from tests.benchmarks.timing import seconds
from tests.planted_layers import insert
from tests.synthetic_links import correlate

_LAYERS, _WIDTH, _EDGES, _UNITS = 12, 16_384, 5, 1_000_000
_ROUNDS = 15


def run(folder: Path) -> Iterator[str]:
    """Edges are random, so that within a few layers most of what is below is reached."""
    path = _build(folder / "layers.atlas")
    yield (
        f"{_LAYERS} x {_WIDTH:,} features, {_EDGES} edges each to the next layer, r uniform in "
        "[0.2, 1]; clock fastest and median, processor fastest (of all threads)"
    )
    keep = "create or replace temp table found as from"
    with atlas.open(path) as a:
        for at_least in (0.9, 0.8, 0.5):
            for place, layer in (("first", 0), ("middle", _LAYERS // 2)):
                rng = np.random.default_rng(layer)
                names = [f"big/{layer}-resid_post/{i}" for i in rng.integers(0, _WIDTH, _ROUNDS)]
                found: list[int] = []

                def one(name: str, at_least: float = at_least, found: list[int] = found) -> None:
                    a.execute(f"{keep} lineage(?, at_least := ?)", [name, at_least]).fetchall()
                    found.append(a.rows("select count(*) from found")[0][0])

                calls = [lambda name=name, one=one: one(name) for name in names]
                yield (
                    f"lineage() from the {place} layer, r >= {at_least}: {_times(calls)}; "
                    f"{statistics.median(found):,.0f} features in the middle"
                )
        for at_least in (0.9, 0.5):

            def every(at_least: float = at_least) -> None:
                a.execute(f"{keep} lineages('big', at_least := ?)", [at_least]).fetchall()

            yield (
                f"lineages() of all {_LAYERS * _WIDTH:,} features, back and on, r >= {at_least}: "
                f"{_times([every] * 5)}"
            )
        flow = lambda: a.rows("from layer_flow('big', at_least := 0.9)")  # noqa: E731
        yield f"layer_flow(): {_times([flow] * 5)}"


def _times(calls: Sequence[Callable[[], object]]) -> str:
    calls[0]()
    clock, processor = [], []
    for call in calls:
        started = time.process_time()
        clock.append(1e3 * seconds(call))
        processor.append(1e3 * (time.process_time() - started))
    return f"{min(clock):,.0f} ms, {statistics.median(clock):,.0f} ms, {min(processor):,.0f} ms"


def _build(path: Path) -> Path:
    """Only the tables that lineage reads; sums are made so that each r is what was drawn."""
    rng = np.random.default_rng(0)
    n = _LAYERS * _WIDTH
    n_active = rng.integers(500, 5000, n)
    mean = rng.integers(500, 3000, n)
    sums = n_active * mean
    squares = (1.2 * n_active * mean * mean).astype("i8")
    deviation = np.sqrt(_UNITS * squares.astype("f8") - sums.astype("f8") ** 2)
    with atlas.create(path) as store, store.transaction():
        insert(store, "models", model_id=[0], name=["big"], tokenizer_id=[0], run_id=[0])
        for layer in range(_LAYERS):
            ids = layer * _WIDTH + np.arange(_WIDTH)
            insert(
                store, "saes", sae_id=[layer], model_id=[0], name=[f"big/{layer}-resid_post"],
                layer=[layer], hook=["resid_post"], d_sae=[_WIDTH], first_feature_id=[ids[0]],
            )  # fmt: skip
            insert(
                store, "features", feature_id=ids, sae_id=[layer] * _WIDTH,
                index=np.arange(_WIDTH), alive=[True] * _WIDTH, n_active=n_active[ids],
                sum_q=sums[ids], sum_q2=squares[ids],
            )  # fmt: skip
            if layer + 1 == _LAYERS:
                break
            a = np.repeat(ids, _EDGES)
            # Five different ones each: what a random step leads to, counted round the layer.
            steps = np.sort(rng.integers(0, _WIDTH - _EDGES, (_WIDTH, _EDGES)), 1)
            index = (np.arange(_WIDTH)[:, None] + steps + np.arange(_EDGES)) % _WIDTH
            b = (layer + 1) * _WIDTH + np.sort(index, 1).ravel()
            r = rng.uniform(0.2, 1, len(a))
            products = sums[a].astype("f8") * sums[b]
            n_both = np.minimum(n_active[a], n_active[b]) // 2
            insert(
                store, "links", link_id=[layer], sae_a=[layer], sae_b=[layer + 1],
                over=["tokens"], min_joint=[20], n=[_UNITS], n_pairs=[len(a)],
            )  # fmt: skip
            insert(
                store, "coactivations", link_id=[layer] * len(a), feature_a=a, feature_b=b,
                n_both=n_both, n_both_strong=n_both // 2,
                sum_ab=((r * deviation[a] * deviation[b] + products) / _UNITS).astype("i8"),
            )  # fmt: skip
        correlate(store)
    return path
