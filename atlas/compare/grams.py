"""Sums over the entries of two symmetric matrices of which one is permuted: Σ a_ij · b_o(i)o(j).

What RSA and CKA are: under a permutation similarities, or their ranks, change place and need not be
calculated anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atlas.compare import entry_loops
from atlas.compare.prepared import Orders, Prepared

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_ROWS = 512
"""Rows of a Gram matrix that are calculated at a time, in float64."""


def upper_products(X: Floats, of: Callable[[Floats], Floats] | None = None) -> Singles:
    """Inner products of the rows i < j of X (n, d), float32 (n (n − 1) / 2,), row by row.

    of: makes something else of a block of products.

    Calculated in float64: what is equal shall be so after rounding, as ranks tell ties from others.
    """
    n = len(X)
    upper = np.empty(n * (n - 1) // 2, np.float32)
    at = 0
    for begin in range(0, n, _ROWS):
        block = X[begin : begin + _ROWS] @ X[begin:].T
        for i, row in enumerate(of(block) if of else block, start=1):
            upper[at : at + len(row) - i] = row[i:]
            at += len(row) - i
    return upper


@dataclass(frozen=True, kw_only=True, eq=False)
class Products(Prepared):
    """Σ_{i<j} a_ij · b_o(i)o(j) + Σ_i a_i · b_o(i), over entries beside and on the diagonal."""

    upper_a: Singles
    """(n (n − 1) / 2,)"""
    b: Singles
    """(n, n), symmetric; its diagonal is not read."""
    diagonal_a: Floats | None = None
    """(n,); None to leave it out."""
    diagonal_b: Floats | None = None

    def permuted_all(self, orders: Orders) -> Floats:
        """The sum for each permutation, in float64 of float32 entries."""
        return _sums(self.upper_a, self.b, self.diagonal_a, self.diagonal_b, orders)


def products(
    upper_a: Singles,
    upper_b: Singles,
    n: int,
    diagonal_a: Floats | None = None,
    diagonal_b: Floats | None = None,
) -> Products:
    """Sums over two symmetric (n, n) matrices; their memory is 6 n² bytes."""
    b = entry_loops.mirrored(upper_b, n)
    value = float(_sums(upper_a, b, diagonal_a, diagonal_b, np.arange(n)[None])[0])
    return Products(
        n=n, value=value, upper_a=upper_a, b=b, diagonal_a=diagonal_a, diagonal_b=diagonal_b
    )


def _sums(
    upper_a: Singles,
    b: Singles,
    diagonal_a: Floats | None,
    diagonal_b: Floats | None,
    orders: Orders,
) -> Floats:
    sums: Floats = entry_loops.permuted_sums(upper_a, b, np.ascontiguousarray(orders, np.int32))
    if diagonal_a is not None and diagonal_b is not None:
        sums += diagonal_b[orders] @ diagonal_a
    return sums
