"""Compiled loops over sparse activations: what `products` runs, and the only place of numba.

Every loop releases the lock of the interpreter and writes to arrays it is given, so that several
threads run it at once, each with arrays of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Reals = NDArray[np.float64]
Loop = TypeVar("Loop", bound=Callable[..., None])


def _compiled(loop: Loop) -> Loop:
    """Compile at the first call, and keep the result on disk for the next process if possible."""
    try:
        return cast(Loop, njit(nogil=True, cache=True)(loop))
    except RuntimeError:  # neither the package's folder nor one of the user's can be written
        return cast(Loop, njit(nogil=True)(loop))


@_compiled
def best_partners(
    first: int, last: int, n_units: int, shift: int, min_joint: int,
    indptr_a: Longs, unit_a: Ints, q_a: Ints, sum_a: Reals, inverse_norm_a: Reals,
    indptr_b: Longs, entry_b: Longs, sum_b: Reals, inverse_norm_b: Reals,
    scratch: Longs, touched: Ints,
    partner_a: Ints, r_a: Reals, n_both_a: Longs,
    partner_b: Ints, r_b: Reals, n_both_b: Longs,
) -> None:  # fmt: skip
    """Best partners of the A-features `first` … `last` − 1, and of B-features among these.

    The sums over each unit's pairs of entries gather in `scratch` (d_b, 2): Σq_a·q_b and the units
    in common; `touched` (d_b + 1,) lists the rows in use, which are zero again afterwards.
    entry_b: by unit, the feature in the upper and q in the lower 32 bits.
    shift: unit u of B is compared with unit u + shift of A, round the end.
    """
    for i in range(first, last):
        scale = inverse_norm_a[i]
        if scale == 0.0:
            continue
        n_touched = 0
        for entry in range(indptr_a[i], indptr_a[i + 1]):
            unit = unit_a[entry] - shift
            if unit < 0:
                unit += n_units
            q = np.int64(q_a[entry])
            for at in range(indptr_b[unit], indptr_b[unit + 1]):
                packed = entry_b[at]
                j = packed >> 32
                n_both = scratch[j, 1]
                touched[n_touched] = j
                n_touched += n_both == 0
                scratch[j, 1] = n_both + 1
                scratch[j, 0] += q * (packed & 0xFFFFFFFF)
        best, partner, common = 0.0, -1, 0
        for at in range(n_touched):
            j = touched[at]
            sum_ab, n_both = scratch[j, 0], scratch[j, 1]
            scratch[j, 0] = 0
            scratch[j, 1] = 0
            if n_both < min_joint:
                continue
            covariance = np.float64(n_units) * sum_ab - sum_a[i] * sum_b[j]
            r = covariance * scale * inverse_norm_b[j]
            if r > best or (r == best and j < partner):
                best, partner, common = r, j, n_both
            if r > r_b[j]:
                r_b[j], partner_b[j], n_both_b[j] = r, i, n_both
        partner_a[i], r_a[i], n_both_a[i] = partner, best, common


@_compiled
def joint_statistics(
    first: int, last: int,
    indptr_a: Longs, unit_a: Ints, q_a: Ints, indptr_b: Longs, unit_b: Ints, q_b: Ints,
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
                at_a += 1
                at_b += 1
            elif unit_a[at_a] < unit_b[at_b]:
                at_a += 1
            else:
                at_b += 1
        n_both[pair] = common
        sum_ab[pair] = total


@_compiled
def correlation_rows(
    first: int, last: int, n_units: int,
    indptr_a: Longs, unit_a: Ints, q_a: Ints, sum_a: Reals, inverse_norm_a: Reals, ia: Longs,
    indptr_b: Longs, unit_b: Ints, q_b: Ints, sum_b: Reals, inverse_norm_b: Reals, ib: Longs,
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
