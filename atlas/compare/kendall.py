"""Kendall's tau-b between the entries of two symmetric matrices, one of them permuted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atlas.compare import entry_loops
from atlas.compare.prepared import Orders, Prepared, Undefined

Singles = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Kendall(Prepared):
    """Entries of A sorted once; those of B, as integers, brought into their order each time."""

    place: NDArray[np.uint32]
    """(N,) of each entry of A above the diagonal, where it stands among them sorted."""
    numbers_a: NDArray[np.uint32]
    """(N,) sorted: equal for entries that are."""
    numbers_b: NDArray[np.uint32]
    """(n, n), symmetric: by size, equal for entries that are."""
    tied: tuple[int, int]
    """Pairs of entries that are equal in A, and in B."""

    def permuted_all(self, orders: Orders) -> NDArray[np.float64]:
        """tau-b for each permutation: n² log n of time and 4 n² bytes each."""
        taus = [
            _tau(self.place, self.numbers_a, self.numbers_b, self.tied, order) for order in orders
        ]
        return np.array(taus, np.float64)


def kendall(upper_a: Singles, upper_b: Singles, n: int) -> Prepared:
    """tau-b = (concordant − discordant) / √((pairs − ties in A) (pairs − ties in B)); Kendall 1945.

    upper_a, upper_b: (n (n − 1) / 2,), entries above the diagonals. NaN where all of one are equal.
    """
    order, numbers_a = entry_loops.ascending(upper_a)
    place = np.empty_like(order)
    place[order] = np.arange(len(order), dtype=np.uint32)
    order_b, sorted_b = entry_loops.ascending(upper_b)
    numbers_b = np.empty_like(sorted_b)
    numbers_b[order_b] = sorted_b
    if not (numbers_a[-1] and sorted_b[-1]):
        return Undefined(n=n, value=np.nan)
    full_b = entry_loops.mirrored(numbers_b, n)
    tied = _ties(numbers_a), _ties(sorted_b)
    return _Kendall(
        n=n,
        value=_tau(place, numbers_a, full_b, tied, np.arange(n)),
        place=place,
        numbers_a=numbers_a,
        numbers_b=full_b,
        tied=tied,
    )


def _ties(numbers: NDArray[np.uint32]) -> int:
    """Pairs of equal numbers."""
    counts = np.bincount(numbers)
    return int((counts * (counts - 1) // 2).sum())


def _tau(
    place: NDArray[np.uint32],
    numbers_a: NDArray[np.uint32],
    numbers_b: NDArray[np.uint32],
    tied: tuple[int, int],
    order: NDArray[np.integer],
) -> float:
    """Of B permuted; arrays as in `_Kendall`."""
    discordant, tied_in_both = entry_loops.kendall_counts(
        place, numbers_a, numbers_b, order.astype(np.int64)
    )
    pairs = len(place) * (len(place) - 1) // 2
    untied_a, untied_b = (float(pairs - ties) for ties in tied)
    balance = pairs - sum(tied) + tied_in_both - 2 * discordant
    return float(balance / math.sqrt(untied_a) / math.sqrt(untied_b))
