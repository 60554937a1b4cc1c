"""Pearson's r between the features of two SAEs from their sparse activations, block by block.

r = (n·Σab − Σa·Σb) / √((n·Σa² − (Σa)²)·(n·Σb² − (Σb)²)), as in the SQL macro `pearson`. Every sum
is an exact integer; only their combination is floating point, in one order, so that a result does
not depend on the number of threads. The product of two SAEs is never held: what is kept of it are
each feature's best partner and what was asked for.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atlas.compare.activity import Activity

_BLOCKS_PER_THREAD = 8
"""Blocks differ in work; with several each, no thread waits long for the last one."""

_ROUNDING = 1e-9
"""A variance below this share of the mean square may be nothing but rounding."""


class Best(NamedTuple):
    """Each feature's best partner in the other SAE: the largest r > 0 with enough units in common.

    partner: −1, and r NaN, of a feature that has none. Among equals the lowest index is best.
    """

    partner_a: NDArray[np.int32]
    """(d_a,): the best feature of B."""
    r_a: NDArray[np.float64]
    n_both_a: NDArray[np.int64]
    """(d_a,): units on which the two are active; 0 where there is no partner."""
    partner_b: NDArray[np.int32]
    """(d_b,): the best feature of A."""
    r_b: NDArray[np.float64]
    n_both_b: NDArray[np.int64]


class Candidates(NamedTuple):
    """Pairs with r > 0 and enough units in common, by feature of A."""

    a: NDArray[np.int64]
    """(n,)"""
    b: NDArray[np.int64]
    r: NDArray[np.float64]
    complete: bool
    """Whether no feature of A has more of them."""


def best_partners(
    a: Activity,
    b: Activity,
    min_joint: int,
    *,
    take_a: NDArray[np.bool_] | None = None,
    take_b: NDArray[np.bool_] | None = None,
    meets: NDArray[np.int64] | None = None,
    threads: int | None = None,
) -> Best:
    """The best partner of every feature of A in B, and of every feature of B in A.

    a, b: activations on the same units.
    min_joint: units on which both must be active.
    take_a, take_b: (d_sae,), features that may be paired; all unless given.
    meets: (n_units,), the unit of B that each unit of A is compared with; the same unless given.
    threads: all cores unless given; the result does not depend on it.
    """
    from atlas.compare import loops

    threads = threads or os.cpu_count() or 1
    sum_a, norm_a = _moments(a, min_joint, take_a)
    sum_b, norm_b = _moments(b, min_joint, take_b, meets)
    met = _met(a, meets)
    partner_a, r_a, n_both_a = _nothing(a.d_sae)

    def run(blocks: Callable[[], tuple[int, int] | None]) -> Any:
        scratch = np.zeros((b.d_sae, 2), np.int64)
        touched = np.empty(b.d_sae + 1, np.uint32)
        partner_b, r_b, n_both_b = _nothing(b.d_sae)
        while block := blocks():
            loops.best_partners(
                *block, met, min_joint,
                *_by_feature(a), sum_a, norm_a, *_by_unit(b), sum_b, norm_b,
                scratch, touched, partner_a, r_a, n_both_a, partner_b, r_b, n_both_b,
            )  # fmt: skip
        return partner_b, r_b, n_both_b

    partner_b, r_b, n_both_b = _merged(_in_blocks(run, _work(a, b, met), threads))
    r_a[partner_a < 0] = np.nan
    r_b[partner_b < 0] = np.nan
    return Best(partner_a, _clipped(r_a), n_both_a, partner_b, _clipped(r_b), n_both_b)


def candidates(
    a: Activity,
    b: Activity,
    min_joint: int,
    most: int,
    *,
    take_a: NDArray[np.bool_] | None = None,
    take_b: NDArray[np.bool_] | None = None,
    threads: int | None = None,
) -> Candidates:
    """The `most` best partners in B of every feature of A; parameters as of `best_partners`.

    Memory: 12 bytes for each of d_a · `most` pairs.
    """
    from atlas.compare import loops

    most = min(most, b.d_sae)
    (sum_a, norm_a), (sum_b, norm_b) = (
        _moments(a, min_joint, take_a),
        _moments(b, min_joint, take_b),
    )
    met = _met(a)
    partner, r = np.empty((a.d_sae, most), np.int32), np.empty((a.d_sae, most))
    n_found = np.zeros(a.d_sae, np.int64)

    def run(blocks: Callable[[], tuple[int, int] | None]) -> None:
        scratch = np.zeros((b.d_sae, 2), np.int64)
        touched = np.empty(b.d_sae + 1, np.uint32)
        while block := blocks():
            loops.candidates(
                *block, met, min_joint,
                *_by_feature(a), sum_a, norm_a, *_by_unit(b), sum_b, norm_b,
                scratch, touched, partner, r, n_found,
            )  # fmt: skip

    _in_blocks(run, _work(a, b, met), threads or os.cpu_count() or 1)
    kept = np.arange(most) < n_found[:, None]
    ia, column = np.nonzero(kept)
    ib = partner[ia, column].astype(np.int64)
    return Candidates(ia, ib, _clipped(r[ia, column]), bool((n_found <= most).all()))


def joint_statistics(
    a: Activity,
    b: Activity,
    ia: NDArray[np.int64],
    ib: NDArray[np.int64],
    threads: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each pair (ia[p], ib[p]): units on which both are active, and Σ q_a·q_b, int64 (n,)."""
    from atlas.compare import loops

    n_both, sum_ab = np.zeros(len(ia), np.int64), np.zeros(len(ia), np.int64)

    def run(blocks: Callable[[], tuple[int, int] | None]) -> None:
        while block := blocks():
            loops.joint_statistics(*block, *_by_feature(a), *_by_feature(b), ia, ib, n_both, sum_ab)

    work = _before(a.n_active[ia] + b.n_active[ib])
    _in_blocks(run, work, threads or os.cpu_count() or 1)
    return n_both, sum_ab


def correlations(
    a: Activity, b: Activity, ia: NDArray[np.int64], ib: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Pearson's r over all units of each pair (ia[p], ib[p]), (n,); 0 where either is constant."""
    _, sum_ab = joint_statistics(a, b, ia, ib)
    covariance = a.n_units * sum_ab.astype(np.float64)
    covariance -= a.sum_q[ia].astype(np.float64) * b.sum_q[ib].astype(np.float64)
    return _clipped(covariance * a.inverse_norm[ia] * b.inverse_norm[ib])


def correlation_matrix(
    a: Activity,
    b: Activity,
    ia: NDArray[np.int64],
    ib: NDArray[np.int64],
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Pearson's r of every feature `ia` of A with every `ib` of B; 0 where either is constant.

    Shape (len(ia), len(ib)).
    """
    from atlas.compare import loops

    out = np.zeros((len(ia), len(ib)), np.float32)
    sum_a, sum_b = a.sum_q.astype(np.float64), b.sum_q.astype(np.float64)

    def run(blocks: Callable[[], tuple[int, int] | None]) -> None:
        scratch = np.zeros(a.n_units, np.int64)
        while block := blocks():
            loops.correlation_rows(
                *block, a.n_units, *_by_feature(a), sum_a, a.inverse_norm, ia,
                *_by_feature(b), sum_b, b.inverse_norm, ib, scratch, out,
            )  # fmt: skip

    _in_blocks(run, np.arange(len(ia) + 1), threads or os.cpu_count() or 1)
    return out


def _moments(
    side: Activity,
    min_joint: int,
    take: NDArray[np.bool_] | None,
    meets: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Σq and `inverse_norm` over the units that `meets` names, as often as it names them.

    The norm is 0 also of features that cannot be paired, which makes their r 0.
    """
    total, inverse_norm = side.sum_q.astype(np.float64), side.inverse_norm
    if meets is not None:
        q = np.bincount(meets, minlength=side.n_units)[side.unit] * side.q
        total = np.diff(_before(q)[side.indptr]).astype(np.float64)
        squares = side.n_units * np.diff(_before(q * side.q)[side.indptr]).astype(np.float64)
        spread = squares - np.square(total)
        varies = (inverse_norm > 0) & (spread > _ROUNDING * squares)
        inverse_norm = np.where(varies, 1.0 / np.sqrt(np.where(varies, spread, 1.0)), 0.0)
    usable = side.n_active >= min_joint
    if take is not None:
        usable &= take
    return total, np.where(usable, inverse_norm, 0.0)


def _met(a: Activity, meets: NDArray[np.int64] | None = None) -> NDArray[np.uint32]:
    return np.arange(a.n_units, dtype=np.uint32) if meets is None else meets.astype(np.uint32)


def _by_feature(side: Activity) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """indptr, unit and q with the types of `loops`."""
    return side.indptr.view(np.uint64), side.unit.view(np.uint32), side.q


def _by_unit(side: Activity) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """indptr, feature and q with the types of `loops`."""
    indptr, feature, q = side.by_unit
    return indptr.view(np.uint64), feature.view(np.uint32), q


def _work(a: Activity, b: Activity, met: NDArray[np.uint32]) -> NDArray[np.int64]:
    """(d_a + 1,): pairs of entries before each A-feature, and in all."""
    return _before(np.diff(b.by_unit.indptr)[met][a.unit])[a.indptr]


def _nothing(n: int) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int64]]:
    """Partner, r and units in common of features of which no pair has been seen."""
    return np.full(n, -1, np.int32), np.zeros(n), np.zeros(n, np.int64)


def _in_blocks(
    run: Callable[[Callable[[], tuple[int, int] | None]], Any],
    work: NDArray[np.int64],
    threads: int,
) -> list[Any]:
    """What each thread's `run` returns; it is given what hands out the blocks (first, last).

    work: (n + 1,), the work before each item and in all; blocks are of about equal work.
    """
    n_blocks = threads * _BLOCKS_PER_THREAD if threads > 1 else 1
    wanted = np.linspace(0, work[-1], n_blocks + 1)[1:-1]
    edges = np.unique(np.concatenate([[0], np.searchsorted(work, wanted), [len(work) - 1]]))
    numbers = itertools.count()  # next() of a count is atomic

    def blocks() -> tuple[int, int] | None:
        number = next(numbers)
        return (edges[number], edges[number + 1]) if number < len(edges) - 1 else None

    if threads == 1:
        return [run(blocks)]
    with ThreadPoolExecutor(threads) as pool:
        return [one.result() for one in [pool.submit(run, blocks) for _ in range(threads)]]


def _merged(found: list[Any]) -> Any:
    """The best of what several threads found for the same features."""
    partner, r, n_both = found[0]
    for other_partner, other_r, other_n_both in found[1:]:
        better = (other_r > r) | ((other_r == r) & (other_partner < partner))
        better &= other_partner >= 0
        partner[better], r[better] = other_partner[better], other_r[better]
        n_both[better] = other_n_both[better]
    return partner, r, n_both


def _before(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n + 1,): the sum of all values before each, and of all."""
    before = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=before[1:])
    return before


def _clipped(r: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rounding may take r a little beyond ±1."""
    return np.clip(r, -1.0, 1.0)
