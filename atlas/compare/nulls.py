"""How far a value is from chance: nulls by permutation and by random subsets, p, q, calibration."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from atlas.compare.prepared import Prepared
from atlas.errors import BadInput
from atlas.progress import Progress, Silent

Floats = NDArray[np.float64]
Result = TypeVar("Result")

_TIE = 1e-6
"""Part of a value by which a null value may lie below it and count as equal: rounding of single
precision. A null of one that is not equal lies this near for about one value in a million."""

_SHORTEST_BLOCK = 16
_NUMBERS_IN_BLOCK = 1 << 16
"""Permutations are made and measured in blocks of about as many numbers."""


@dataclass(frozen=True)
class Null:
    """What a measure gives by chance."""

    mean: float
    sd: float
    """Of the m values, with m − 1 below the line; NaN of fewer than 2."""
    p: float
    """(1 + values at least as high as the one tested) / (1 + m); NaN where that one is."""
    m: int


def permutation_nulls(
    prepared: Sequence[Prepared],
    m: int,
    seed: int,
    progress: Progress | None = None,
    threads: int | None = None,
) -> list[Null]:
    """What measures of the same n pairs give with the pairs shuffled, one-sided.

    m: permutations, the same ones for all measures.
    threads: all cores unless given; the result does not depend on it.
    """
    _check_count(m, "permutations")
    lengths = {one.n for one in prepared}
    if len(lengths) > 1:
        raise BadInput(
            f"Measures that share permutations are of as many pairs, not of {sorted(lengths)}; "
            "test those of one number of pairs at a time."
        )
    if not prepared:
        return []
    (n,) = lengths
    size = max(_NUMBERS_IN_BLOCK // max(n, 1), _SHORTEST_BLOCK)
    values = np.empty((len(prepared), m))

    def measure(number: int) -> int:
        # A block's permutations depend on its number alone, not on who measures it and when.
        rng = np.random.default_rng([seed, number])
        here = slice(number * size, min((number + 1) * size, m))
        orders = np.tile(np.arange(n, dtype=np.int32), (here.stop - here.start, 1))
        orders = rng.permuted(orders, axis=1, out=orders)
        for one, found in zip(prepared, values, strict=True):
            found[here] = one.permuted_all(orders)
        return here.stop - here.start

    with (progress or Silent()).task("shuffling pairs", m, "permutations") as task:
        for done in _on_all_cores(measure, -(-m // size), threads):
            task.advance(done)
    return [_null(one.value, found) for one, found in zip(prepared, values, strict=True)]


def subset_nulls(
    values: Sequence[float],
    draw: Callable[[np.random.Generator], Sequence[float]],
    m: int,
    seed: int,
    progress: Progress | None = None,
    threads: int | None = None,
) -> list[Null]:
    """What measures give of random features, one-sided.

    values: of the measures tested; draw: their values of features drawn with a generator, which is
    the i-th draw's own, so that a draw does not depend on those before it. It is called by several
    threads at once.
    threads: all cores unless given; the result does not depend on it.
    """
    _check_count(m, "draws")
    found = np.empty((len(values), m))

    def measure(i: int) -> None:
        found[:, i] = draw(np.random.default_rng([seed, i]))

    with (progress or Silent()).task("drawing random features", m, "draws") as task:
        for _ in _on_all_cores(measure, m, threads):
            task.advance()
    return [_null(value, row) for value, row in zip(values, found, strict=True)]


def _on_all_cores(
    measure: Callable[[int], Result], n: int, threads: int | None
) -> Iterator[Result]:
    """What `measure` returns of 0 … n - 1, as they are done."""
    with (
        # Each has a core: products that take more would only wait for each other.
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(threads or os.cpu_count() or 1, "nulls") as pool,
    ):
        done = [pool.submit(measure, number) for number in range(n)]
        try:
            for one in as_completed(done):
                yield one.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _check_count(m: int, what: str) -> None:
    if m < 1:
        raise BadInput(f"A null needs at least 1 of its {what}, not {m}; give 1,000 or so.")


def _null(value: float, found: Floats) -> Null:
    """NaN among the values found, of draws that a measure does not allow, are not counted."""
    found = found[np.isfinite(found)]
    m = len(found)
    if not m:
        return Null(math.nan, math.nan, math.nan, 0)
    p = math.nan
    if math.isfinite(value):
        p = (1 + int(np.count_nonzero(found >= value - _TIE * abs(value)))) / (1 + m)
    sd = float(found.std(ddof=1)) if m > 1 else math.nan
    return Null(float(found.mean()), sd, p, m)


def benjamini_hochberg(p: ArrayLike | Iterable[float]) -> Floats:
    """The q of each p: the least false discovery rate at which it counts.

    Benjamini and Hochberg 1995; it holds for tests that are independent or rise and fall together.
    NaN stays NaN and is no test. Float64 of p's shape (n,).
    """
    p = np.asarray(p, np.float64)
    q = np.full(p.shape, np.nan)
    tests = np.flatnonzero(~np.isnan(p))
    falling = tests[np.argsort(-p[tests], kind="stable")]
    n = len(tests)
    stepped = p[falling] * n / np.arange(n, 0, -1)
    q[falling] = np.minimum(np.minimum.accumulate(stepped), 1.0)
    return q


def calibrated(value: float, null_mean: float) -> float:
    """(value − null mean) / (1 − null mean): 0 by chance, 1 of copies.

    NaN where the null leaves no room below 1: 1 − null mean < 1e-6.
    """
    room = 1 - null_mean
    return (value - null_mean) / room if room >= 1e-6 else math.nan
