"""Representational similarity analysis (Kriegeskorte et al. 2008) of two spaces of directions.

The inner similarity is between the directions of one space, each with each; the outer one says how
alike two spaces' inner similarities are, entry by entry above the diagonal. Lan et al. 2024
(arXiv 2410.06981) take Pearson inside and Spearman outside. Pearson inside is a cosine without the
direction (1, …, 1), so that it depends on the axes: a rotated copy keeps the cosines, but not quite
the correlations. Similarities are float32, and tie where they are equal as such.

Memory grows with n²: 6 n² bytes are held, and 14 n² needed to prepare them, 0.2 GB for 4,000 pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.compare.prepared import Prepared, Undefined
from atlas.compare.spaces import FEWEST, unit_rows
from atlas.errors import BadInput

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

INNER = {
    "pearson": "Pearson's r over the coordinates of two directions",
    "cosine": "the cosine of two directions",
    "euclidean": "the distance of two directions of length 1",
}

OUTER = {
    "spearman": "Spearman's rank correlation, ties share their mean rank",
    "pearson": "Pearson's r",
    "kendall": "Kendall's tau-b; n² log n for every permutation, so for few hundreds of pairs",
}


def rsa(
    X: NDArray[Any], Y: NDArray[Any], inner: str = "pearson", outer: str = "spearman"
) -> Prepared:
    """Outer correlation of the inner similarities of X (n, d_a) with those of Y (n, d_b).

    inner, outer: of `INNER` and `OUTER`. Distances of directions of length 1 order as their cosines
    do, so that 'euclidean' differs from 'cosine' under an outer Pearson alone.

    NaN of fewer than 3 pairs, or where all similarities of a side are the same. BadInput for a row
    without direction, and inside Pearson for one of equal numbers.
    """
    X, Y = unit_rows(X, Y)
    n = len(X)
    if n < FEWEST:
        return Undefined(n=n, value=np.nan)
    upper_a, upper_b = _similarities(X, inner), _similarities(Y, inner)
    if outer == "kendall":
        from atlas.compare.kendall import kendall

        return kendall(upper_a, upper_b, n)
    from atlas.compare.grams import products

    a, b = _standardised(upper_a, outer), _standardised(upper_b, outer)
    if a is None or b is None:
        return Undefined(n=n, value=np.nan)
    return products(a, b, n)


def _similarities(X: Floats, inner: str) -> Singles:
    """Inner similarities of rows i < j of X (n, d), whose length is 1."""
    from atlas.compare.grams import upper_products

    if inner == "pearson":
        X = X - X.mean(axis=1, keepdims=True)
        length = np.linalg.norm(X, axis=1, keepdims=True)
        flat = np.flatnonzero(length < 1e-12)
        if len(flat):
            raise BadInput(
                f"Of {len(flat)} pairs, the first in row {flat[0]}, a feature's direction has the "
                "same number in every coordinate, so that it correlates with none; leave these "
                "pairs out, or use rsa(cosine, spearman)."
            )
        X = X / length
    return upper_products(X, _distances if inner == "euclidean" else _rounded)


def _rounded(similarities: Floats) -> Floats:
    """To 1e-12: what differs by the rounding of a product alone shall tie."""
    rounded: Floats = np.rint(similarities * 2.0**40) * 2.0**-40
    return rounded


def _distances(cosines: Floats) -> Floats:
    distances: Floats = np.sqrt(np.maximum(2 - 2 * _rounded(cosines), 0))
    return distances


def _standardised(upper: Singles, outer: str) -> Singles | None:
    """Centred, of norm 1, so that products are correlations; None where all are the same."""
    if outer == "spearman":
        from atlas.compare.entry_loops import ascending, centred_ranks

        centred: Singles = centred_ranks(*ascending(upper))
    else:
        centred = (upper - upper.mean(dtype=np.float64)).astype(np.float32)
    norm = np.sqrt(np.square(centred, dtype=np.float64).sum())
    # Equal similarities may differ by the last bit of float32.
    if norm <= 1e-7 * np.sqrt(len(upper)):
        return None
    centred /= norm
    return centred
