"""Compiled loops over sorted lists of units: what `gates` counts with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.compiled import compiled

Indices = NDArray[np.int32]
Places = NDArray[np.int64]


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
def common(
    first: int, last: int, indptr: Places, unit: Indices, sets: NDArray[Any], out: Places
) -> None:
    """Into `out`: of the sets `first` … `last` − 1, on how many units all features are active.

    Feature f is active on unit[indptr[f]:indptr[f + 1]], ascending; sets (n, k) hold features. The
    cost of a set is k times the firings of its rarest feature, times a logarithm.
    """
    k = sets.shape[1]
    at = np.empty(k, np.int64)
    for row in range(first, last):
        rarest = 0
        fewest = indptr[sets[row, 0] + 1] - indptr[sets[row, 0]]
        for i in range(k):
            at[i] = indptr[sets[row, i]]
            if indptr[sets[row, i] + 1] - at[i] < fewest:
                rarest, fewest = i, indptr[sets[row, i] + 1] - at[i]
        count = 0
        for entry in range(at[rarest], at[rarest] + fewest):
            wanted = unit[entry]
            everywhere = True
            for i in range(k):
                if i != rarest:
                    stop = indptr[sets[row, i] + 1]
                    at[i] = _reach(unit, at[i], stop, wanted)
                    if at[i] == stop or unit[at[i]] != wanted:
                        everywhere = False
                        break
            count += everywhere
        out[row] = count
