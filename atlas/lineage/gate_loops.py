"""Compiled loops over sorted lists of units: what `gates` counts with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.compiled import compiled

Indices = NDArray[np.int32]
Places = NDArray[np.int64]
Words = NDArray[np.uint64]

_TWOS = np.uint64(0x5555555555555555)
_FOURS = np.uint64(0x3333333333333333)
_EIGHTS = np.uint64(0x0F0F0F0F0F0F0F0F)
_BYTES = np.uint64(0x0101010101010101)


@compiled
def _reach(unit: Indices, at: int, stop: int, wanted: int) -> int:
    """The first place from `at` on, before `stop`, whose unit is at least `wanted`; else `stop`.

    By steps that double, then halve: the cost is the logarithm of the way.
    """
    step = 1
    last = at
    while last < stop and unit[last] < wanted:
        at = last + 1
        last += step
        step *= 2
    last = min(last, stop)
    while at < last:
        middle = (at + last) // 2
        if unit[middle] < wanted:
            at = middle + 1
        else:
            last = middle
    return at


@compiled
def mark(slot: Indices, indptr: Places, unit: Indices, bits: Words) -> None:
    """Set in row slot[f] of `bits` (n_slots, words), zero before, a bit for each unit of f."""
    for feature in range(len(slot)):
        if slot[feature] >= 0:
            row = bits[slot[feature]]
            for entry in range(indptr[feature], indptr[feature + 1]):
                row[unit[entry] >> 6] |= np.uint64(1) << np.uint64(unit[entry] & 63)


@compiled
def _ones(word: np.uint64) -> int:
    """How many bits of a word are 1, by sums of 2, 4 and 8 bits side by side."""
    word = word - ((word >> np.uint64(1)) & _TWOS)
    word = (word & _FOURS) + ((word >> np.uint64(2)) & _FOURS)
    word = (word + (word >> np.uint64(4))) & _EIGHTS
    return int((word * _BYTES) >> np.uint64(56))


@compiled
def _rarest_first(
    features: NDArray[Any], indptr: Places, slot: Indices, at: Places, stop: Places, marks: Places
) -> None:
    """Into `at`, `stop` and `marks`: where each feature's units lie, and its row of marks."""
    for i in range(len(features)):
        begin, end = indptr[features[i]], indptr[features[i] + 1]
        place = i
        while place > 0 and stop[place - 1] - at[place - 1] > end - begin:
            at[place], stop[place] = at[place - 1], stop[place - 1]
            marks[place] = marks[place - 1]
            place -= 1
        at[place], stop[place], marks[place] = begin, end, slot[features[i]]


@compiled
def _others_active(
    wanted: int, unit: Indices, bits: Words, at: Places, stop: Places, marks: Places
) -> bool:
    """Whether all features but the first are active on a unit, past those asked for before."""
    for i in range(1, len(at)):
        if marks[i] >= 0:
            if not bits[marks[i], wanted >> 6] >> np.uint64(wanted & 63) & np.uint64(1):
                return False
        else:
            at[i] = _reach(unit, at[i], stop[i], wanted)
            if at[i] >= stop[i] or unit[at[i]] != wanted:
                return False
    return True


@compiled
def common(
    first: int, last: int,
    indptr: Places, unit: Indices, slot: Indices, bits: Words,
    sets: NDArray[Any], out: Places,
) -> None:  # fmt: skip
    """Into `out`: of the sets `first` … `last` − 1, on how many units all features are active.

    Feature f is active on unit[indptr[f]:indptr[f + 1]], ascending, and if slot[f] >= 0 these are
    marked in that row of `bits`; sets (n, k) hold features. The cost of a set is k times the
    firings of its rarest feature; of features that all have marks, k times the units / 64.
    """
    k = sets.shape[1]
    at = np.empty(k, np.int64)
    stop = np.empty(k, np.int64)
    marks = np.empty(k, np.int64)
    for row in range(first, last):
        _rarest_first(sets[row], indptr, slot, at, stop, marks)
        count = 0
        if marks[0] >= 0:  # then all have, being more frequent
            for word in range(bits.shape[1]):
                together = bits[marks[0], word]
                for i in range(1, k):
                    together &= bits[marks[i], word]
                count += _ones(together)
        else:  # where the rarest is not active, the others need no look
            for entry in range(at[0], stop[0]):
                count += _others_active(unit[entry], unit, bits, at, stop, marks)
        out[row] = count


@compiled
def common_by_part(
    first: int, last: int,
    indptr: Places, unit: Indices, slot: Indices, bits: Words,
    part: Indices, sets: NDArray[Any], out: Places,
) -> None:  # fmt: skip
    """Into `out` (n, n_parts), zero before: `common`, apart for each part of the units.

    part: (n_units,), the part that a unit belongs to.
    """
    k = sets.shape[1]
    at = np.empty(k, np.int64)
    stop = np.empty(k, np.int64)
    marks = np.empty(k, np.int64)
    for row in range(first, last):
        _rarest_first(sets[row], indptr, slot, at, stop, marks)
        for entry in range(at[0], stop[0]):
            if _others_active(unit[entry], unit, bits, at, stop, marks):
                out[row, part[unit[entry]]] += 1
