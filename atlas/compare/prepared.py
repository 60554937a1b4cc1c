"""What a measure of paired features gives: its value, and its value with the pairs shuffled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Orders = NDArray[np.integer]
"""(m, n): permutations of 0 … n − 1. A's feature in place i goes with B's in place order[i]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared(ABC):
    """A measure of n paired features, made ready for permutation tests."""

    n: int
    """Pairs."""
    value: float
    """NaN where the measure is not defined: too few pairs, or features that do not differ."""
    dims_a: int | None = None
    """Dimensions kept of A's space, where the measure keeps some."""
    dims_b: int | None = None

    @abstractmethod
    def permuted_all(self, orders: Orders) -> NDArray[np.float64]:
        """The value under each of some permutations (m, n) of B's features, float64 (m,).

        Spaces are not decomposed, nor similarities ranked, anew. Several threads may call this at
        once; memory grows with n, not with m.
        """

    def permuted(self, order: NDArray[np.integer]) -> float:
        """The value with the feature of B in place order[i] in place i; order (n,)."""
        return float(self.permuted_all(np.asarray(order)[None])[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class Undefined(Prepared):
    """A measure of features that do not allow it: NaN, whatever goes with what."""

    def permuted_all(self, orders: Orders) -> NDArray[np.float64]:
        """NaN for each."""
        return np.full(len(orders), np.nan)
