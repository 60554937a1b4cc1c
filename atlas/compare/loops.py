"""Compiled loops over sparse activations: what `products` runs.

Every loop releases the lock of the interpreter and writes to arrays it is given, so that several
threads run it at once, each with arrays of its own. Whatever is an index is unsigned: of a signed
one, the compiled code would ask each time whether it counts from the end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atlas.compiled import compiled

Indices = NDArray[np.uint32]
Places = NDArray[np.uint64]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Reals = NDArray[np.float64]


@compiled
def _sums(
    i: int, meets: Indices,
    indptr_a: Places, unit_a: Indices, q_a: Ints,
    indptr_b: Places, feature_b: Indices, q_b: Ints,
    scratch: Longs, touched: Indices,
) -> np.uint64:  # fmt: skip
    """Sums over the units of A-feature `i`, for every B-feature active on one of them.

    `scratch` (d_b, 2), zero before, gathers Σq_a·q_b and the units in common: side by side, as both
    are needed at once. `touched` (d_b + 1,) lists the rows in use, whose number is returned.
    meets: (n_units,), the unit of B that each unit of A is compared with.
    """
    n_touched = np.uint64(0)
    for entry in range(indptr_a[i], indptr_a[i + 1]):
        unit = np.uint64(meets[unit_a[entry]])
        q = np.int64(q_a[entry])
        for at in range(indptr_b[unit], indptr_b[unit + np.uint64(1)]):
            j = feature_b[at]
            n_both = scratch[j, 1]
            touched[n_touched] = j  # kept only if it is the first of j; no branch
            n_touched += np.uint64(n_both == 0)
            scratch[j, 1] = n_both + 1
            scratch[j, 0] += q * q_b[at]
    return n_touched


@compiled
def best_partners(
    first: int, last: int, meets: Indices, min_joint: int,
    indptr_a: Places, unit_a: Indices, q_a: Ints, sum_a: Reals, inverse_norm_a: Reals,
    indptr_b: Places, feature_b: Indices, q_b: Ints, sum_b: Reals, inverse_norm_b: Reals,
    scratch: Longs, touched: Indices,
    partner_a: Ints, r_a: Reals, n_both_a: Longs,
    partner_b: Ints, r_b: Reals, n_both_b: Longs,
) -> None:  # fmt: skip
    """Best partners of the A-features `first` … `last` − 1, and of B-features among these.

    Features whose inverse norm is given as 0 have no partners and are nobody's. `scratch` and
    `touched` as in `_sums`; `scratch` is zero again afterwards.
    """
    n = np.float64(len(meets))
    for i in range(first, last):
        scale = inverse_norm_a[i]
        if scale == 0.0:
            continue
        n_touched = _sums(
            i, meets, indptr_a, unit_a, q_a, indptr_b, feature_b, q_b, scratch, touched
        )
        best, partner, common = 0.0, -1, 0
        for at in range(n_touched):
            j = touched[at]
            sum_ab, n_both = scratch[j, 0], scratch[j, 1]
            scratch[j, 0] = 0
            scratch[j, 1] = 0
            if n_both < min_joint:
                continue
            covariance = n * sum_ab - sum_a[i] * sum_b[j]
            r = covariance * scale * inverse_norm_b[j]
            if r > best or (r == best and j < partner):
                best, partner, common = r, j, n_both
            if r > r_b[j]:
                r_b[j], partner_b[j], n_both_b[j] = r, i, n_both
        partner_a[i], r_a[i], n_both_a[i] = partner, best, common


@compiled
def _keep(r: Reals, partner: Ints, n: int, value: float, j: int) -> None:
    """Add to a heap of n values, the least one first; where no place is left, that one goes.

    By hand, as NumPy's partition takes six seconds to compile.
    """
    at = n
    if n < len(r):
        while at > 0 and r[(at - 1) // 2] > value:
            r[at], partner[at] = r[(at - 1) // 2], partner[(at - 1) // 2]
            at = (at - 1) // 2
    elif value <= r[0]:
        return
    else:
        at = 0
        while 2 * at + 1 < n:
            child = 2 * at + 1
            child += child + 1 < n and r[child + 1] < r[child]
            if r[child] >= value:
                break
            r[at], partner[at] = r[child], partner[child]
            at = child
    r[at], partner[at] = value, j


@compiled
def candidates(
    first: int, last: int, meets: Indices, min_joint: int,
    indptr_a: Places, unit_a: Indices, q_a: Ints, sum_a: Reals, inverse_norm_a: Reals,
    indptr_b: Places, feature_b: Indices, q_b: Ints, sum_b: Reals, inverse_norm_b: Reals,
    scratch: Longs, touched: Indices,
    partner: Ints, r: Reals, n_found: Longs,
) -> None:  # fmt: skip
    """The partners with r > 0 of the A-features `first` … `last` − 1: the strongest, unordered.

    `partner` and `r` (d_a, most) take as many as they hold; `n_found` (d_a,) tells how many there
    are. The others as of `best_partners`.
    """
    n = np.float64(len(meets))
    for i in range(first, last):
        scale = inverse_norm_a[i]
        if scale == 0.0:
            continue
        n_touched = _sums(
            i, meets, indptr_a, unit_a, q_a, indptr_b, feature_b, q_b, scratch, touched
        )
        found = 0
        for at in range(n_touched):
            j = touched[at]
            sum_ab, n_both = scratch[j, 0], scratch[j, 1]
            scratch[j, 0] = 0
            scratch[j, 1] = 0
            value = (n * sum_ab - sum_a[i] * sum_b[j]) * scale * inverse_norm_b[j]
            if n_both >= min_joint and value > 0.0:
                _keep(r[i], partner[i], min(found, r.shape[1]), value, j)
                found += 1
        n_found[i] = found


@compiled
def joint_statistics(
    first: int, last: int,
    indptr_a: Places, unit_a: Indices, q_a: Ints,
    indptr_b: Places, unit_b: Indices, q_b: Ints,
    ia: Longs, ib: Longs, n_both: Longs, sum_ab: Longs,
) -> None:  # fmt: skip
    """Units in common and Σq_a·q_b of the pairs `first` … `last` − 1, by merging their units."""
    for pair in range(first, last):
        i, j = ia[pair], ib[pair]
        at_a, end_a = indptr_a[i], indptr_a[i + 1]
        at_b, end_b = indptr_b[j], indptr_b[j + 1]
        common, total = np.int64(0), np.int64(0)
        while at_a < end_a and at_b < end_b:
            if unit_a[at_a] == unit_b[at_b]:
                common += 1
                total += np.int64(q_a[at_a]) * np.int64(q_b[at_b])
                at_a += np.uint64(1)
                at_b += np.uint64(1)
            elif unit_a[at_a] < unit_b[at_b]:
                at_a += np.uint64(1)
            else:
                at_b += np.uint64(1)
        n_both[pair] = common
        sum_ab[pair] = total


@compiled
def correlation_rows(
    first: int, last: int, n_units: int,
    indptr_a: Places, unit_a: Indices, q_a: Ints, sum_a: Reals, inverse_norm_a: Reals, ia: Longs,
    indptr_b: Places, unit_b: Indices, q_b: Ints, sum_b: Reals, inverse_norm_b: Reals, ib: Longs,
    scratch: Longs, out: NDArray[np.float32],
) -> None:  # fmt: skip
    """Rows `first` … `last` − 1 of Pearson's r of every `ia` with every `ib`, into `out`.

    `scratch` (n_units,) holds one A-feature's q, and is zero again afterwards.
    """
    for row in range(first, last):
        i = ia[row]
        for entry in range(indptr_a[i], indptr_a[i + 1]):
            scratch[unit_a[entry]] = q_a[entry]
        for column in range(len(ib)):
            j = ib[column]
            sum_ab = np.int64(0)
            for entry in range(indptr_b[j], indptr_b[j + 1]):
                sum_ab += scratch[unit_b[entry]] * np.int64(q_b[entry])
            covariance = np.float64(n_units) * sum_ab - sum_a[i] * sum_b[j]
            r = covariance * inverse_norm_a[i] * inverse_norm_b[j]
            out[row, column] = min(max(r, -1.0), 1.0)
        for entry in range(indptr_a[i], indptr_a[i + 1]):
            scratch[unit_a[entry]] = 0
