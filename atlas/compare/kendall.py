"""Kendall's tau-b between the entries of two symmetric matrices, one of them permuted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atlas.compare import entry_loops
from atlas.compare.prepared import Orders, Prepared, Undefined

Singles = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
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
        """tau-b for each permutation: n² log n of time and 6 n² bytes each."""
        return np.array(
            [
                _tau(
                    *entry_loops.kendall_counts(
                        self.place, self.numbers_a, self.numbers_b, order.astype(np.int64)
                    ),
                    *self.tied,
                    len(self.place),
                )
                for order in orders
            ],
            np.float64,
        )


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
    identity = entry_loops.kendall_counts(place, numbers_a, full_b, np.arange(n))
    return _Kendall(
        n=n,
        value=_tau(*identity, *tied, len(place)),
        place=place,
        numbers_a=numbers_a,
        numbers_b=full_b,
        tied=tied,
    )


def _ties(numbers: NDArray[np.uint32]) -> int:
    """Pairs of equal numbers."""
    counts = np.bincount(numbers)
    return int((counts * (counts - 1) // 2).sum())


def _tau(discordant: int, tied_in_both: int, tied_a: int, tied_b: int, entries: int) -> float:
    pairs = entries * (entries - 1) // 2
    balance = pairs - tied_a - tied_b + tied_in_both - 2 * discordant
    # Two roots, as the product of the counts would not fit an integer of 64 bits.
    return balance / (float(pairs - tied_a) ** 0.5 * float(pairs - tied_b) ** 0.5)
