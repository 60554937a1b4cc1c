"""The measures of paired features by name: what each says, where it comes from, and its value.

Each gives a `Prepared`: its value, and its value under permutations of the pairs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.compare import rsa as _rsa
from atlas.compare import spaces
from atlas.compare.prepared import Orders, Prepared, Undefined
from atlas.compare.spaces import has_direction
from atlas.errors import BadInput

__all__ = ["METRICS", "Metric", "Prepared", "from_matrix", "has_direction", "metric"]


@dataclass(frozen=True)
class Metric:
    """One measure of paired features."""

    name: str
    summary: str
    source: str
    prepare: Callable[..., Prepared] = field(repr=False)
    """Of the paired directions X (n, d_a), Y (n, d_b); of correlations (n, n) if `of_correlations`.

    BadInput for a pair without direction (`has_direction`); a value of NaN where the measure is not
    defined, as of fewer than 3 pairs.
    """
    quadratic: bool = False
    """Whether it needs memory for n² numbers, so that of many pairs some should be drawn."""
    of_correlations: bool = False
    """Whether it measures activations, by the correlations of A's features with B's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _MeanOfDiagonal(Prepared):
    R: NDArray[Any]

    def permuted_all(self, orders: Orders) -> NDArray[np.float64]:
        """The mean of R[i, order[i]] for each order."""
        rows = np.arange(self.n)
        return np.array([self.R[rows, order].mean(dtype=np.float64) for order in orders])


def from_matrix(R: NDArray[Any]) -> Prepared:
    """Mean correlation of n pairs: the mean of the diagonal of R (n, n), r of A's i with B's j."""
    if R.ndim != 2 or R.shape[0] != R.shape[1]:
        raise BadInput(
            f"Correlations of n pairs are an (n, n) array, not one of {R.shape}; give r of the "
            "A-features of all pairs with the B-features of all pairs."
        )
    n = len(R)
    if not n:
        return Undefined(n=0, value=np.nan)
    return _MeanOfDiagonal(n=n, value=float(R.diagonal().mean(dtype=np.float64)), R=R)


_LAN = "Lan et al. 2024 (arXiv 2410.06981)"

METRICS = {
    one.name: one
    for one in (
        Metric(
            "mean_correlation",
            "mean of the pairs' correlations r of activations",
            _LAN,
            from_matrix,
            quadratic=True,
            of_correlations=True,
        ),
        Metric(
            "svcca",
            "mean canonical correlation of the principal components with 99 % of the variance, at "
            "most (n - 1) // 2 of each side",
            "Raghu et al. 2017 (arXiv 1706.05806)",
            spaces.svcca_capped,
        ),
        Metric(
            "svcca_uncapped",
            "svcca without its bound on components: near 1 whatever the data are unless n is much "
            "larger than d",
            "Raghu et al. 2017 (arXiv 1706.05806)",
            spaces.svcca,
        ),
        Metric(
            "svcca_k1",
            "|r| of the first principal components' scores: what the code of Lan et al. computes",
            _LAN,
            spaces.svcca_k1,
        ),
        Metric(
            "rsa",
            "Spearman's correlation of the similarities (Pearson's r of directions) between "
            "features; rsa(inner, outer) for others",
            "Kriegeskorte et al. 2008 (doi 10.3389/neuro.06.004.2008)",
            _rsa.rsa,
            quadratic=True,
        ),
        Metric(
            "cka",
            "linear centred kernel alignment of the directions",
            "Kornblith et al. 2019 (arXiv 1905.00414)",
            spaces.cka,
        ),
        Metric(
            "procrustes",
            "cosine of the centred spaces after the best rotation",
            "Schönemann 1966 (doi 10.1007/BF02289451)",
            spaces.procrustes,
        ),
    )
}
"""All measures by name; `metric` finds rsa with other correlations as well."""


def metric(name: str) -> Metric:
    """A measure by name: one of `METRICS`, or 'rsa(inner, outer)'; BadInput tells the choices.

    Case and spaces do not matter, and parts of rsa may be left out from the right.
    """
    plain = re.sub(r"\s+", "", name.lower())
    if plain in METRICS:
        return METRICS[plain]
    written = re.fullmatch(r"rsa\(([a-z]*)(?:,([a-z]*))?\)", plain)
    if not written:
        raise BadInput(
            f"There is no measure {name!r}; there are {', '.join(METRICS)} and "
            "rsa(inner, outer), as in 'rsa(cosine, pearson)'."
        )
    inner, outer = written[1] or "pearson", written[2] or "spearman"
    if inner not in _rsa.INNER or outer not in _rsa.OUTER:
        raise BadInput(
            f"The inner similarity of {name!r} is one of {', '.join(_rsa.INNER)}, and the outer "
            f"correlation one of {', '.join(_rsa.OUTER)}."
        )
    if (inner, outer) == ("pearson", "spearman"):
        return METRICS["rsa"]
    return Metric(
        f"rsa({inner}, {outer})",
        f"RSA; inside {_rsa.INNER[inner]}; outside {_rsa.OUTER[outer]}",
        METRICS["rsa"].source,
        partial(_rsa.rsa, inner=inner, outer=outer),
        quadratic=True,
    )
