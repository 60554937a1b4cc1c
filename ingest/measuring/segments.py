"""Grouped arithmetic on sorted integer arrays: what SQL calls `group by`, in NumPy.

A *segment* is a run of equal keys; all functions are exact and independent of any order that the
keys leave open, because ties are always resolved by the position of the entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer]
Int64 = NDArray[np.int64]
_Int = TypeVar("_Int", bound=np.integer)


def segment_starts(*keys: Ints) -> Int64:
    """Positions (n_segments,) at which any of the equally long `keys` (n,) changes, first 0."""
    n = len(keys[0])
    if n == 0:
        return np.zeros(0, np.int64)
    change = np.ones(n, bool)
    np.not_equal(keys[0][1:], keys[0][:-1], out=change[1:])
    for key in keys[1:]:
        change[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(change)


def stable_order(*keys: Ints) -> Int64:
    """Permutation (n,) that sorts by the non-negative `keys`, the first the most significant.

    Equal entries keep their order. Sorting integers that hold key and position together is several
    times faster than an indirect sort; the latter remains for keys that do not fit in 63 bits.
    """
    n = len(keys[0])
    if n == 0:
        return np.zeros(0, np.int64)
    position_bits = (n - 1).bit_length()
    widths = [int(key.max()).bit_length() for key in keys]
    if sum(widths) + position_bits > 63:
        return np.lexsort(keys[::-1])
    packed = keys[0].astype(np.int64)
    for key, width in zip(keys[1:], widths[1:], strict=True):
        packed <<= width
        packed |= key
    packed <<= position_bits
    packed |= np.arange(n)
    packed.sort()
    packed &= (1 << position_bits) - 1
    return packed


def rank_in_segment(starts: Int64, n: int) -> Int64:
    """0, 1, … within each segment, (n,), for segments that begin at `starts`."""
    lengths = np.diff(starts, append=n)
    return np.arange(n) - np.repeat(starts, lengths)


def top_per_group(group: Ints, value: Ints, k: int) -> Int64:
    """Positions of the `k` largest values of each group, by (group, value desc, position).

    group, value: (n,) non-negative integers, in any order.
    """
    if len(group) == 0:
        return np.zeros(0, np.int64)
    order = stable_order(group, value.max() - value)
    sorted_group = group[order]
    rank = rank_in_segment(segment_starts(sorted_group), len(order))
    return order[rank < k]


def sums_per_segment(values: Ints, starts: Int64) -> Int64:
    """Exact int64 sum of each segment, (n_segments,)."""
    if len(starts) == 0:
        return np.zeros(0, np.int64)
    return np.add.reduceat(values, starts, dtype=np.int64)


def maxima_per_segment(values: NDArray[_Int], starts: Int64) -> NDArray[_Int]:
    """Maximum of each segment, (n_segments,), in the dtype of `values`."""
    if len(starts) == 0:
        return values[:0]
    return np.maximum.reduceat(values, starts)


@dataclass(frozen=True)
class Groups:
    """What `group by feature, key` gives, ordered by both; all arrays (n_groups,)."""

    feature: Int64
    key: Int64
    count: Int64
    sum_q: Int64
    max_q: Int64


_CELLS = 1 << 18
"""Cells counted at once: their counters stay in a core's cache."""

_SPARSE = 16
"""With more cells than so many per entry, sorting is faster than counting."""

_EXACT = 1 << 53


def group_entries(feature: Ints, key: Ints, q: Ints, n_keys: int) -> Groups:
    """Count, sum and maximum of q per (feature, key).

    feature, key, q: (n,) the entries, by ascending feature; key in [0, n_keys), q positive.
    """
    n = len(feature)
    if n == 0:
        none = np.zeros(0, np.int64)
        return Groups(none, none, none, none, none)
    first = int(feature[0])
    n_features = int(feature[-1]) - first + 1
    if n_features * n_keys > _SPARSE * n or int(q.max()) * n >= _EXACT:
        return _group_by_sorting(feature, key, q)
    step = max(1, _CELLS // n_keys)
    bounds = np.searchsorted(feature, np.arange(first, first + n_features + step, step))
    values = q.astype(np.int64)
    found = []
    for number, (a, b) in enumerate(pairwise(bounds.tolist())):
        origin = first + number * step
        cell = (feature[a:b] - origin).astype(np.int64)
        cell *= n_keys
        cell += key[a:b]
        count = np.bincount(cell)
        # Sums in float64 are exact, as these integers are below 2^53.
        sums = np.bincount(cell, weights=values[a:b])
        maxima = np.zeros(len(count), np.int64)
        np.maximum.at(maxima, cell, values[a:b])
        here = np.flatnonzero(count)
        found.append((here + origin * n_keys, count[here], sums[here], maxima[here]))
    group, count, sums, maxima = (np.concatenate(column) for column in zip(*found, strict=True))
    return Groups(group // n_keys, group % n_keys, count, sums.astype(np.int64), maxima)


def _group_by_sorting(feature: Ints, key: Ints, q: Ints) -> Groups:
    order = stable_order(feature, key)
    feature, key, q = feature[order], key[order], q[order]
    starts = segment_starts(feature, key)
    return Groups(
        feature[starts].astype(np.int64),
        key[starts].astype(np.int64),
        np.diff(starts, append=len(q)),
        sums_per_segment(q, starts),
        maxima_per_segment(q, starts).astype(np.int64),
    )
