"""How alike two spaces of paired directions are: SVCCA, linear CKA and Procrustes.

Features are the samples, the coordinates of their directions the variables. Each space is reduced
once to a matrix of n rows; to permute pairs is to permute the rows of one of them, so that a value
under a permutation costs one matrix product A^T P B and its norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.compare.prepared import Orders, Prepared, Undefined
from atlas.errors import BadInput

Floats = NDArray[np.float64]

FEWEST = 3
"""Pairs below which no measure of spaces is defined: two centred samples lie on a line."""

_VARIANCE = 0.99
"""Share of the variance that SVCCA keeps (Raghu et al. 2017, arXiv 1706.05806)."""

_SINGLE_FROM = 2048
"""Pairs from which on permutations are calculated in single precision: half the time, and the
mean canonical correlation is right to 1e-6."""

_GRAM_COST = 30.0
"""Multiplications of a matrix product that take as long as one gathered entry of a Gram matrix."""

_MOST_GRAM = 12_000
"""Pairs up to which Gram matrices are held: 6 n² bytes, 0.9 GB."""

_STACKED = 1 << 21
"""Numbers in the stack of permuted matrices that one product is taken of, at most."""


def has_direction(W: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows of W (n, d) have a direction, as measures of spaces ask of each: (n,)."""
    directed: NDArray[np.bool_] = np.isfinite(W).all(axis=1) & W.any(axis=1)
    return directed


def unit_rows(X: NDArray[Any], Y: NDArray[Any]) -> tuple[Floats, Floats]:
    """Both (n, d_a) and (n, d_b) with rows of length 1, float64.

    BadInput for a row of zeros or with NaN: to leave out its pair or not is the caller's choice.
    """
    if X.ndim != 2 or Y.ndim != 2 or len(X) != len(Y):
        raise BadInput(
            f"Measures need one row per pair on both sides, not arrays of {X.shape} and {Y.shape}; "
            "give X[i] and Y[i] of each pair i."
        )
    without = np.flatnonzero(~(has_direction(X) & has_direction(Y)))
    if len(without):
        raise BadInput(
            f"Of {len(without)} pairs, the first in row {without[0]}, a feature has no direction "
            "(zeros or NaN); leave these pairs out (has_direction tells them)."
        )
    return _unit(X), _unit(Y)


def _unit(W: NDArray[Any]) -> Floats:
    # By the largest number first: a square of a very small or large one is 0 or infinite.
    W = W / np.abs(W).max(axis=1, keepdims=True, initial=0).astype(np.float64)
    unit: Floats = W / np.linalg.norm(W, axis=1, keepdims=True)
    return unit


def principal(X: Floats) -> tuple[Floats, Floats]:
    """Principal components of rows: scores (n, r), by falling variance, and sums of squares (r,).

    r is the rank of the centred rows; 0 where all rows are the same. The smaller of their two Gram
    matrices is decomposed, a fifth of an SVD's work; what has less than 1e-12 of the largest sum of
    squares is its rounding. SVCCA's last component has at least .01 / d of the largest, as it leads
    what remains of 1 %, so that scores are orthogonal to 1e-10 for any d.
    """
    X = X - X.mean(axis=0)
    n, d = X.shape
    squares, vectors = np.linalg.eigh(X.T @ X if d <= n else X @ X.T)
    squares, vectors = squares[::-1], vectors[:, ::-1]
    # Equal rows, of length 1, differ by less than 1e-10 after centring.
    rank = int(np.count_nonzero(squares > max(1e-12 * squares.max(initial=0), 1e-20 * n)))
    squares, vectors = squares[:rank], vectors[:, :rank]
    return (X @ vectors if d <= n else vectors * np.sqrt(squares)), squares


def svcca(X: NDArray[Any], Y: NDArray[Any], most: int | None = None) -> Prepared:
    """Mean canonical correlation of the leading principal components of X (n, d_a), Y (n, d_b).

    Of each space the fewest components with 99 % of the variance are kept, at most `most`. The
    canonical correlations are the singular values of Qx^T Qy, where Q are orthonormal bases of the
    scores; there are min(dims_a, dims_b).

    NaN of fewer than 3 pairs, or where all rows of a side are the same.
    """
    X, Y = unit_rows(X, Y)
    n = len(X)
    if n < FEWEST:
        return Undefined(n=n, value=np.nan)
    (scores_a, squares_a), (scores_b, squares_b) = principal(X), principal(Y)
    dims_a, dims_b = _kept(squares_a, most), _kept(squares_b, most)
    if not (dims_a and dims_b):
        return Undefined(n=n, value=np.nan, dims_a=dims_a, dims_b=dims_b)
    return _product(
        scores_a[:, :dims_a] / np.sqrt(squares_a[:dims_a]),
        scores_b[:, :dims_b] / np.sqrt(squares_b[:dims_b]),
        scale=1 / min(dims_a, dims_b),
        dims_a=dims_a,
        dims_b=dims_b,
    )


def svcca_capped(X: NDArray[Any], Y: NDArray[Any]) -> Prepared:
    """SVCCA with at most (n − 1) // 2 components of each.

    Centred, n samples span n − 1 dimensions, and subspaces of these that together have more than
    n − 1 dimensions meet in some whatever the data are: canonical correlations of 1 for nothing.
    """
    return svcca(X, Y, most=(len(X) - 1) // 2)


def svcca_k1(X: NDArray[Any], Y: NDArray[Any]) -> Prepared:
    """|r| between the scores of the first principal components."""
    return svcca(X, Y, most=1)


def _kept(squares: Floats, most: int | None) -> int:
    """Components with 99 % of the variance, at most `most`."""
    if not len(squares):
        return 0
    share = np.cumsum(squares) / squares.sum()
    return min(int(np.searchsorted(share, _VARIANCE)) + 1, most or len(squares))


def procrustes(X: NDArray[Any], Y: NDArray[Any]) -> Prepared:
    """‖X^T Y‖_* / (‖X‖_F ‖Y‖_F) of centred X (n, d_a), Y (n, d_b).

    Their cosine after the best rotation, 1 of rotated copies. Of spaces of norm 1, 2 − 2 times it
    is the squared distance that is left. NaN as `svcca`.
    """
    X, Y = unit_rows(X, Y)
    n = len(X)
    if n < FEWEST:
        return Undefined(n=n, value=np.nan)
    (scores_a, squares_a), (scores_b, squares_b) = principal(X), principal(Y)
    if not (len(squares_a) and len(squares_b)):
        return Undefined(n=n, value=np.nan)
    return _product(
        scores_a / np.sqrt(squares_a.sum()), scores_b / np.sqrt(squares_b.sum()), scale=1.0
    )


def cka(X: NDArray[Any], Y: NDArray[Any]) -> Prepared:
    """Linear CKA: ‖X^T Y‖_F² / (‖X^T X‖_F ‖Y^T Y‖_F) of centred X (n, d_a), Y (n, d_b).

    The same number is the cosine of the Gram matrices XX^T and YY^T. Permutations gather entries of
    these where that takes less time than the product X^T P Y, and they fit in memory. NaN as
    `svcca`.
    """
    X, Y = unit_rows(X, Y)
    n = len(X)
    if n < FEWEST:
        return Undefined(n=n, value=np.nan)
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    norm_a, norm_b = _gram_norm(X), _gram_norm(Y)
    if min(norm_a, norm_b) <= 1e-20 * n:
        return Undefined(n=n, value=np.nan)
    X, Y = X / np.sqrt(norm_a), Y / np.sqrt(norm_b)
    if n / 2 * _GRAM_COST < X.shape[1] * Y.shape[1] and n <= _MOST_GRAM:
        from atlas.compare.grams import products, upper_products

        # Entries beside the diagonal stand twice in the whole sum.
        return products(
            2 * upper_products(X), upper_products(Y), n, np.square(X).sum(1), np.square(Y).sum(1)
        )
    return _product(X, Y, scale=1.0, squared=True)


def _gram_norm(X: Floats) -> float:
    return float(np.linalg.norm(X.T @ X if X.shape[1] <= len(X) else X @ X.T))


def _product(
    A: Floats,
    B: Floats,
    *,
    scale: float,
    squared: bool = False,
    dims_a: int | None = None,
    dims_b: int | None = None,
) -> Prepared:
    norm = _squared_norms if squared else _nuclear_norms
    value = scale * float(norm((A.T @ B)[None])[0])
    single = len(A) >= _SINGLE_FROM
    if single and not squared:
        from atlas.compare.eigenvalues import eigenvalues

        norm = partial(_nuclear_norms, eigenvalues=eigenvalues)
    dtype = np.float32 if single else np.float64
    return _Product(
        n=len(A),
        value=value,
        dims_a=dims_a,
        dims_b=dims_b,
        a=np.ascontiguousarray(A.T, dtype),
        b=np.ascontiguousarray(B, dtype),
        scale=scale,
        norm=norm,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Product(Prepared):
    """A norm of A^T P B: the nuclear one, or the square of Frobenius's."""

    a: NDArray[Any]
    """(k_a, n)"""
    b: NDArray[Any]
    """(n, k_b)"""
    scale: float
    norm: Callable[[NDArray[Any]], Floats]
    """Of each of (m, k_a, k_b), float64 (m,)."""

    def permuted_all(self, orders: Orders) -> Floats:
        """The norm for each permutation, by one product each."""
        step = max(_STACKED // self.b.size, 1)
        parts = [
            self.norm(np.matmul(self.a, self.b[orders[at : at + step]]))
            for at in range(0, len(orders), step)
        ]
        return self.scale * np.concatenate(parts) if parts else np.empty(0)


def _squared_norms(M: NDArray[Any]) -> Floats:
    """‖M‖_F² of each of M (m, k_a, k_b)."""
    norms: Floats = np.square(M).sum(axis=(1, 2), dtype=np.float64)
    return norms


def _nuclear_norms(
    M: NDArray[Any], eigenvalues: Callable[[NDArray[Any]], NDArray[Any]] = np.linalg.eigvalsh
) -> Floats:
    """‖M‖_* of each of M (m, k_a, k_b): the sum of the roots of the eigenvalues of MM^T.

    These take half the time of the singular values of M. One near 0 is off by the root of the
    rounding, 1e-8 or 3e-4 in single precision; the mean over all, of which few are that small, by
    1e-8 or 1e-6.
    """
    other = M.transpose(0, 2, 1)
    squares = eigenvalues(M @ other if M.shape[1] <= M.shape[2] else other @ M)
    norms: Floats = np.sqrt(np.maximum(squares, 0)).sum(axis=1, dtype=np.float64)
    return norms
