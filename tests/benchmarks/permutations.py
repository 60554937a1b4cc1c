"""Permutation nulls of SVCCA and RSA against computing each measure anew for every permutation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from threadpoolctl import threadpool_limits

from atlas.compare.measures import metric
from atlas.compare.nulls import permutation_nulls
from tests.benchmarks.timing import seconds

_N = 4000
_D = 768
_M = 1000
_MEASURED = 64
"""Permutations that are really taken of ours."""
_ANEW = 3
"""Times that a measure is really computed anew, of which the fastest counts."""

Array = NDArray[np.float64]


def components(W: Array) -> Array:
    """Left singular vectors with 99 % of the variance, and what they are worth."""
    W = W / np.linalg.norm(W, axis=1, keepdims=True)
    U, s, _ = np.linalg.svd(W - W.mean(axis=0), full_matrices=False)
    share = np.cumsum(s**2) / (s**2).sum()
    k = min(int(np.argmax(share >= 0.99)) + 1, (len(W) - 1) // 2)
    return U[:, :k] * s[:k]


def svcca(X: Array, Y: Array) -> float:
    """As the published code goes about it: thin SVDs, covariances of the components kept, their
    inverse roots (pseudo-inverse, then eigenvectors), and a full SVD of the product."""
    a, b = components(X), components(Y)
    k = a.shape[1]
    covariance = np.cov(a, b, rowvar=False)
    roots = []
    for own in (covariance[:k, :k], covariance[k:, k:]):
        values, vectors = np.linalg.eigh(np.linalg.pinv(own))
        roots.append(vectors * np.sqrt(values) @ vectors.T)
    _, correlations, _ = np.linalg.svd(roots[0] @ covariance[:k, k:] @ roots[1])
    return float(correlations.mean())


def svcca_briefly(X: Array, Y: Array) -> float:
    """With the fewest decompositions: thin SVDs, and the singular values of their product."""
    a, b = (W / np.linalg.norm(W, axis=0) for W in (components(X), components(Y)))
    return float(np.linalg.svd(a.T @ b, compute_uv=False).mean())


def rsa(X: Array, Y: Array) -> float:
    """Two correlation matrices, and SciPy's rank correlation of what is above the diagonal."""
    above = np.triu_indices(len(X), 1)
    return float(stats.spearmanr(np.corrcoef(X)[above], np.corrcoef(Y)[above])[0])


ANEW: dict[str, tuple[Callable[[Array, Array], float], ...]] = {
    "svcca": (svcca, svcca_briefly),
    "rsa": (rsa,),
}
"""How each measure is computed anew: as the published code does, and better ways."""


def run(folder: Path) -> Iterator[str]:
    """Decoders that are half alike, one core for all, by the CPU's time."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((_N, _D))
    Y = X @ np.linalg.qr(rng.standard_normal((_D, _D)))[0] + rng.standard_normal((_N, _D))
    orders = np.stack([rng.permutation(_N) for _ in range(_ANEW)])
    permutation_nulls([metric(name).prepare(X[:99], Y[:99]) for name in ANEW], 1, 0)  # compiles
    yield (
        f"n = {_N:,}, d = {_D}, one core; {_M:,} permutations are extrapolated from {_MEASURED} of "
        f"ours, and from the fastest of {_ANEW} computations anew"
    )
    with threadpool_limits(1):
        found = [_measure(name, X, Y, orders) for name in ANEW]
    for one in found:
        yield (
            f"{one.name:6} ours {one.ours:.0f} s ({one.once:.2f} s once, then "
            f"{1e3 * one.each:.1f} ms each); values differ by {one.error:.0e} at most"
        )
        for function, anew in zip(ANEW[one.name], one.anew, strict=True):
            yield (
                f"       anew by {function.__name__}() {anew:,.0f} s ({anew / _M:.2f} s each): "
                f"{anew / one.ours:.0f} times as fast"
            )
    ours = sum(one.ours for one in found)
    for how, anew in (
        ("as published", sum(one.anew[0] for one in found)),
        ("our own preparation", sum(_M * one.once for one in found)),
    ):
        yield f"both   ours {ours:.0f} s, anew, {how}, {anew:,.0f} s: {anew / ours:.0f} times"


@dataclass(frozen=True)
class _Times:
    """Of one measure, in seconds."""

    name: str
    once: float
    each: float
    anew: list[float]
    """All permutations, in each way."""
    error: float

    @property
    def ours(self) -> float:
        """All permutations."""
        return self.once + _M * self.each


def _measure(name: str, X: Array, Y: Array, orders: NDArray[np.int64]) -> _Times:
    one = metric(name)
    prepared = one.prepare(X, Y)
    anew, errors = [], []
    for function in ANEW[name]:
        exact: list[float] = []
        times = [
            _cpu(partial(lambda f, order: exact.append(f(X, Y[order])), function, order))  # noqa: B023
            for order in orders
        ]
        anew.append(_M * min(times))
        errors.append(np.abs(prepared.permuted_all(orders) - exact).max())
    once = min(_cpu(lambda: one.prepare(X, Y)) for _ in range(_ANEW))
    several = _cpu(lambda: permutation_nulls([prepared], _MEASURED, 0, threads=1))
    return _Times(name, once, several / _MEASURED, anew, float(max(errors)))


def _cpu(function: Callable[[], object]) -> float:
    return seconds(function, time.process_time)
