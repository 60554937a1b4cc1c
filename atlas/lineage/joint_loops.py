"""Compiled loops over two SAEs' sparse activations: what `joint` runs.

Every loop writes to arrays it is given, so that several threads run it at once, each on its own
units or features. B's activations lie by unit, `feature` and `value` side by side: value is q, and
its highest bit tells whether the activation is a strong one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.compiled import compiled, prefetch

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Bools = NDArray[np.bool_]

STRONG = 5
"""An activation is strong if it exceeds a fifth of the feature's largest (arXiv 2410.08869)."""
ENOUGH = 128
"""What a counter of `joint_rows` can count to."""

_AHEAD = 8
"""Rows of B that are asked for before they are needed: else memory's latency is all one sees."""
_Q = np.uint64(0x7FFFFFFF)
_HALF = np.uint64(32)
_HIGH = np.uint64(31)
_FULL = np.uint64(0x8080808080808080)
"""The highest bit of each of eight counters."""


@compiled
def _lower_bound(values: Ints, first: int, last: int, wanted: int) -> int:
    """The first place in `values[first:last]`, ascending, with a value of at least `wanted`."""
    while first < last:
        middle = (first + last) // 2
        if values[middle] < wanted:
            first = middle + 1
        else:
            last = middle
    return first


@compiled
def count_active(
    first: int, last: int, start: int, indptr: Longs, unit: Ints, keep: Bools, n_active: Longs
) -> None:
    """Add to `n_active[u − start]` the kept features that are active on unit first … last−1."""
    for i in range(len(indptr) - 1):
        if keep[i]:
            for at in range(_lower_bound(unit, indptr[i], indptr[i + 1], first), indptr[i + 1]):
                if unit[at] >= last:
                    break
                n_active[unit[at] - start] += 1


@compiled
def fill_rows(
    first: int, last: int, start: int, indptr: Longs, unit: Ints, q: Ints, peak: Ints, keep: Bools,
    place: Longs, feature: NDArray[Any], value: NDArray[np.uint32],
) -> None:  # fmt: skip
    """Write the kept features' activations on each unit first … last−1, ascending by feature.

    place: where the next entry of unit u goes, at u − start; moves on with each.
    """
    for i in range(len(indptr) - 1):
        if keep[i]:
            for at in range(_lower_bound(unit, indptr[i], indptr[i + 1], first), indptr[i + 1]):
                if unit[at] >= last:
                    break
                to = place[unit[at] - start]
                place[unit[at] - start] = to + 1
                strong = STRONG * np.int64(q[at]) > peak[i]
                feature[to] = i
                value[to] = np.uint32(q[at]) | (np.uint32(strong) << np.uint32(31))


@compiled
def count_strong(
    first: int, last: int, indptr: Longs, q: Ints, peak: Ints, n_strong: Longs
) -> None:
    """Strong activations of each feature first … last−1."""
    for i in range(first, last):
        n_strong[i] = 0
        for at in range(indptr[i], indptr[i + 1]):
            n_strong[i] += STRONG * np.int64(q[at]) > peak[i]


@compiled
def joint_rows(
    first: int, last: int, start: int, stop: int, min_joint: int,
    indptr_a: Longs, unit_a: Ints, q_a: Ints, peak_a: Ints, keep_a: Bools,
    row: Longs, feature: NDArray[Any], value: NDArray[np.uint32],
    counters: NDArray[np.uint8], slot: NDArray[Any], sums: NDArray[np.uint64],
    out_a: Ints, out_b: Ints, n_both: Longs, n_both_strong: Longs, sum_ab: Longs,
) -> int:  # fmt: skip
    """Joint statistics of A-features first … last−1 with all of B, on units start … stop−1.

    Pairs with at least `min_joint` units in common are written to the last five arrays, by A- and
    then by B-feature; their number is returned. Unit u of B is row u − start.

    Two passes for each A-feature. The first counts, a byte for each B-feature (which all fit into
    the fastest cache), until a pair may have enough; the second sums for those pairs alone. Most
    pairs never have enough, and of them neither q nor a sum is ever touched.

    counters: (d_b, rounded up to eight); slot: zeros (d_b,); sums: (2·d_b + 2,). Scratch.
    """
    words = counters.view(np.uint64)
    kept = 0
    for i in range(first, last):
        if not keep_a[i]:
            continue
        begin = _lower_bound(unit_a, indptr_a[i], indptr_a[i + 1], start)
        end = _lower_bound(unit_a, begin, indptr_a[i + 1], stop)
        # A counter is full, and stays so, when its highest bit is set.
        counters[:] = np.uint8(ENOUGH - min(min_joint, ENOUGH))
        for entry in range(begin, end):
            if entry + 2 * _AHEAD < end:
                prefetch(row, np.int64(unit_a[entry + 2 * _AHEAD] - start))
                v = unit_a[entry + _AHEAD] - start
                for at in range(row[v], row[v + 1], 32):
                    prefetch(feature, at)
                prefetch(feature, row[v + 1])
            u = unit_a[entry] - start
            for at in range(np.uint64(row[u]), np.uint64(row[u + 1])):
                partner = np.uint64(feature[at])
                count = counters[partner]
                counters[partner] = np.uint8(count + np.uint8(1) - (count >> np.uint8(7)))
        n_slots = 0
        for word in range(len(words)):
            if words[word] & _FULL:
                for j in range(8 * word, 8 * word + 8):
                    if counters[j] >> np.uint8(7):
                        out_b[kept + n_slots] = j
                        n_slots += 1
                        slot[j] = n_slots
        if n_slots == 0:
            continue
        # Pairs without a slot share slot 0: adding to it costs less than asking.
        sums[: 2 * n_slots + 2] = np.uint64(0)
        for entry in range(begin, end):
            if entry + 2 * _AHEAD < end:
                prefetch(row, np.int64(unit_a[entry + 2 * _AHEAD] - start))
                v = unit_a[entry + _AHEAD] - start
                for at in range(row[v], row[v + 1], 16):
                    prefetch(value, at)
                prefetch(value, row[v + 1])
                prefetch(feature, row[v])
                prefetch(feature, row[v + 1])
            u = unit_a[entry] - start
            q = np.uint64(q_a[entry])
            strong = np.uint64(STRONG * np.int64(q_a[entry]) > peak_a[i])
            for at in range(np.uint64(row[u]), np.uint64(row[u + 1])):
                to = np.uint64(2) * np.uint64(slot[np.uint64(feature[at])])
                entry_b = np.uint64(value[at])
                sums[to] += q * (entry_b & _Q)
                # Both counts in one word: strong ones above, all of them below.
                both_strong = (entry_b >> _HIGH) & strong
                sums[to + np.uint64(1)] += np.uint64(1) + (both_strong << _HALF)
        # What is written never overtakes what is read of out_b.
        to_row = kept
        for one in range(n_slots):
            j = out_b[kept + one]
            slot[j] = 0
            counts = np.int64(sums[2 * one + 3])
            if (counts & 0xFFFFFFFF) >= min_joint:
                out_a[to_row], out_b[to_row] = i, j
                n_both[to_row], n_both_strong[to_row] = counts & 0xFFFFFFFF, counts >> 32
                sum_ab[to_row] = sums[2 * one + 2]
                to_row += 1
        kept = to_row
    return kept
