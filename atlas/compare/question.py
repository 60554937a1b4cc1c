"""Metrics of one set of paired features, each beside what it gives by chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atlas.compare.activity import Activity
from atlas.compare.measures import Metric, Prepared, has_direction
from atlas.compare.nulls import Null, calibrated, permutation_nulls, subset_nulls
from atlas.compare.pairing import Pairs
from atlas.compare.products import correlation_matrix, correlations
from atlas.compare.settings import Tests
from atlas.progress import Progress

FEWEST = 3
"""Pairs without which nothing is measured (Lan et al. 2024 ask as many of a subspace)."""

_MOST = 6000
"""Pairs drawn at random, at most, for a measure that takes memory by their square."""

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
Paired = tuple[Rows, Rows]
"""Indices of A's and B's features, pair by pair."""


@dataclass(frozen=True)
class Measured:
    """A metric of the paired features of two SAEs, and chance beside it."""

    metric: str
    value: float
    """NaN where there were fewer than `FEWEST` pairs."""
    n: int
    """Pairs measured."""
    null: Null | None = None
    """With the pairs shuffled."""
    subset: Null | None = None
    """Of random features."""
    dims_a: int | None = None
    dims_b: int | None = None

    @property
    def calibrated(self) -> float:
        """(value - null mean) / (1 - null mean); NaN where that says nothing."""
        return math.nan if self.null is None else calibrated(self.value, self.null.mean)


@dataclass(frozen=True)
class Material:
    """What two SAEs' features are measured by; several threads may read it at once."""

    decoders: tuple[Floats, Floats]
    """(d_sae, d_out) of each."""
    alive: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    activities: tuple[Activity, Activity] | None
    """On documents that chose no pair, where there are such; None if no metric asks for them."""

    def value(self, metric: Metric, pairs: Paired) -> float:
        """The metric of these pairs, without anything for permutations of them."""
        if metric.of_correlations:
            return float(correlations(*self._both(), *pairs).mean())
        return metric.prepare(*self._directions(pairs)).value

    def prepare(self, metric: Metric, pairs: Paired) -> Prepared:
        """The metric of these pairs and of permutations of them."""
        if metric.of_correlations:
            return metric.prepare(correlation_matrix(*self._both(), *pairs))
        return metric.prepare(*self._directions(pairs))

    def directed(self, pairs: Paired) -> Paired:
        """The pairs both of whose decoder directions are some: not all zeros."""
        x, y = self._directions(pairs)
        usable = has_direction(x) & has_direction(y)
        return pairs[0][usable], pairs[1][usable]

    def live(self) -> Paired:
        """Features of either SAE that fire and have a direction; not paired."""
        ours, theirs = (
            np.flatnonzero(alive & has_direction(decoder))
            for alive, decoder in zip(self.alive, self.decoders, strict=True)
        )
        return ours, theirs

    def _directions(self, pairs: Paired) -> tuple[Floats, Floats]:
        return self.decoders[0][pairs[0]], self.decoders[1][pairs[1]]

    def _both(self) -> tuple[Activity, Activity]:
        assert self.activities is not None
        return self.activities


def answer(
    metrics: Sequence[Metric],
    pairs: Pairs,
    whole: Pairs | None,
    material: Material,
    tests: Tests,
    seed: int,
    progress: Progress,
) -> list[Measured]:
    """Metrics of pairs with their nulls, in the order of `metrics`.

    whole: the pairing of all features, of which a category's random subsets are drawn; None where
    `pairs` is that.
    """
    found: dict[str, Measured] = {}
    # Metrics of one number of pairs share their shufflings.
    for bounded in (False, True):
        some = [one for one in metrics if (one.quadratic and len(pairs.a) > _MOST) is bounded]
        if some:
            at = np.arange(len(pairs.a))
            if bounded:
                drawn = np.random.default_rng([seed, 2]).choice(at, _MOST, replace=False)
                at = np.sort(drawn)
            chosen = material.directed((pairs.a[at], pairs.b[at]))
            draw = _subsets(material, whole, len(chosen[0]))
            found |= _measure(some, chosen, draw, material, tests, seed, progress)
    return [found[one.name] for one in metrics]


Draw = Callable[[np.random.Generator], Paired]


def _measure(
    metrics: Sequence[Metric],
    pairs: Paired,
    draw: Draw | None,
    material: Material,
    tests: Tests,
    seed: int,
    progress: Progress,
) -> dict[str, Measured]:
    n = len(pairs[0])
    if n < FEWEST:
        return {one.name: Measured(one.name, math.nan, n) for one in metrics}
    prepared = [material.prepare(one, pairs) for one in metrics]
    nulls: Sequence[Null | None] = [None] * len(metrics)
    if tests.permutations:
        nulls = permutation_nulls(prepared, tests.permutations, seed, progress)
    subsets: Sequence[Null | None] = [None] * len(metrics)
    if tests.subsets and draw is not None:

        def values(rng: np.random.Generator) -> list[float]:
            drawn = draw(rng)
            return [material.value(one, drawn) for one in metrics]

        subsets = subset_nulls(
            [one.value for one in prepared], values, tests.subsets, seed, progress
        )
    return {
        one.name: Measured(one.name, ready.value, n, null, subset, ready.dims_a, ready.dims_b)
        for one, ready, null, subset in zip(metrics, prepared, nulls, subsets, strict=True)
    }


def _subsets(material: Material, whole: Pairs | None, n: int) -> Draw | None:
    """Draws n random pairs; None where there are no more than those measured.

    Of all features, random live ones of either SAE, in random pairing; of a category, random pairs
    of the pairing of all features.
    """
    if whole is None:
        ours, theirs = material.live()
        if min(len(ours), len(theirs)) < n:
            return None
        return lambda rng: (
            rng.choice(ours, n, replace=False),
            rng.choice(theirs, n, replace=False),
        )
    a, b = material.directed((whole.a, whole.b))
    if len(a) <= n:
        return None

    def pairs(rng: np.random.Generator) -> Paired:
        at = rng.choice(len(a), n, replace=False)
        return a[at], b[at]

    return pairs
