"""Answers one question about two SAEs: which features pair, or how alike the paired ones are."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from atlas.activations import Over
from atlas.compare.activity import Activity
from atlas.compare.measures import Metric, Prepared, has_direction, metric
from atlas.compare.nulls import Null, calibrated, permutation_nulls, subset_nulls
from atlas.compare.pairing import Pairs, Side, pair, read_side
from atlas.compare.products import correlation_matrix, correlations
from atlas.compare.semantic import members
from atlas.compare.settings import PairingSettings, Tests
from atlas.directions import read_vectors
from atlas.progress import Progress, Silent

if TYPE_CHECKING:
    import duckdb

    Connect = Callable[[], duckdb.DuckDBPyConnection]

WHOLE = "all"
"""The subspace of all features; any other one is a category."""

FEWEST = 3
"""Pairs without which nothing is measured (Lan et al. 2024 ask as many of a subspace)."""

_MOST = 6000
"""Pairs drawn at random, at most, for a measure that takes memory by their square."""

_ENTRIES_KEPT = 100_000_000
"""Activations of SAEs held in memory at a time."""

_PAIRS_KEPT = 10_000_000
_MEASURED_KEPT = 100_000

_NUMBERS_KEPT = 250_000_000
"""Numbers of decoders held in memory at a time: a GB."""

Rows = NDArray[np.int64]

K = TypeVar("K")
V = TypeVar("V")


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


class Comparer:
    """Pairs and measures in one state of an atlas; safe to use from several threads.

    What is read of an SAE and what is paired stays in memory, up to a bound, so that further
    questions about it are cheap.
    """

    def __init__(self, connect: Connect) -> None:
        """connect: makes a connection to the atlas, which is closed after use."""
        self._connect = connect
        self._lock = threading.RLock()
        self._sides: _Recent[tuple[int, Over], Side] = _Recent(_ENTRIES_KEPT)
        self._decoders: _Recent[int, NDArray[np.float32]] = _Recent(_NUMBERS_KEPT)
        self._members: dict[int, dict[str, Rows]] = {}
        self._pairs: _Recent[tuple[int, int, PairingSettings, str], Pairs] = _Recent(_PAIRS_KEPT)
        self._measured: _Recent[tuple[Any, ...], Measured] = _Recent(_MEASURED_KEPT)

    def categories(self, a: int, b: int) -> list[str]:
        """The categories of which both SAEs have at least `FEWEST` features."""
        ours, theirs = self._members_of(a), self._members_of(b)
        return [
            category
            for category in ours
            if min(len(ours[category]), len(theirs.get(category, ()))) >= FEWEST
        ]

    def pairs(
        self,
        a: int,
        b: int,
        settings: PairingSettings,
        subspace: str = WHOLE,
        progress: Progress | None = None,
    ) -> Pairs:
        """The paired features of two SAEs, given by id.

        subspace: 'all', or a category of the table `categories`, whose features alone are paired.
        """
        key = (a, b, settings, subspace)
        with self._lock:
            found = self._pairs.get(key)
            if found is None:
                only: dict[str, Rows] = {}
                if subspace != WHOLE:
                    nobody = np.empty(0, np.int64)
                    only["only_a"] = self._members_of(a).get(subspace, nobody)
                    only["only_b"] = self._members_of(b).get(subspace, nobody)
                over = settings.over
                found = pair(
                    self._side(a, over), self._side(b, over), settings, progress=progress, **only
                )
                self._pairs.put(key, found, len(found.a) + 1)
            return found

    def measure(
        self,
        a: int,
        b: int,
        metrics: Sequence[str],
        settings: PairingSettings,
        tests: Tests,
        subspace: str = WHOLE,
        progress: Progress | None = None,
    ) -> list[Measured]:
        """Metrics of the paired features of two SAEs, with their nulls; in the order asked for.

        metrics: names as in `atlas.compare.measures.metric`.
        subspace: as in `pairs`.
        """
        chosen = [metric(name) for name in metrics]
        progress = progress or Silent()
        asked = (a, b, settings, tests, subspace)
        with self._lock:
            found = {one.name: self._measured.get((*asked, one.name)) for one in chosen}
            missing = [one for one in chosen if found[one.name] is None]
            if missing:
                pairs = self.pairs(a, b, settings, subspace, progress)
                # Measures of one number of pairs share their shufflings.
                for few in (False, True):
                    some = [one for one in missing if _is_bounded(one, len(pairs.a)) is few]
                    if some:
                        question = _Question(self, a, b, pairs, some, settings, tests, subspace)
                        for one in question.answer(progress):
                            found[one.metric] = one
                            self._measured.put((*asked, one.metric), one, 1)
            return [one for one in found.values() if one is not None]

    # -- what is read ---------------------------------------------------------------------------

    def side(self, sae_id: int, over: Over) -> Side:
        """One SAE's activations."""
        with self._lock:
            return self._side(sae_id, over)

    def decoder(self, sae_id: int) -> NDArray[np.float32]:
        """(d_sae, d_out)"""
        with self._lock:
            found = self._decoders.get(sae_id)
            if found is None:
                with closing(self._connect()) as con:
                    found = read_vectors(con, "decoder", sae_id)
                self._decoders.put(sae_id, found, found.size)
            return found

    def _side(self, sae_id: int, over: Over) -> Side:
        found = self._sides.get((sae_id, over))
        if found is None:
            found = read_side(self._connect, sae_id, over)
            self._sides.put((sae_id, over), found, len(found.activity.q))
        return found

    def _members_of(self, sae_id: int) -> dict[str, Rows]:
        with self._lock:
            if sae_id not in self._members:
                with closing(self._connect()) as con:
                    self._members[sae_id] = members(con, sae_id)
            return self._members[sae_id]


class _Question:
    """Some metrics of one set of pairs, all measured on as many of them."""

    def __init__(
        self,
        comparer: Comparer,
        a: int,
        b: int,
        pairs: Pairs,
        metrics: Sequence[Metric],
        settings: PairingSettings,
        tests: Tests,
        subspace: str,
    ) -> None:
        self._comparer, self._a, self._b = comparer, a, b
        self._metrics, self._settings, self._tests = metrics, settings, tests
        self._subspace = subspace
        at: Rows = np.arange(len(pairs.a))
        if _is_bounded(metrics[0], len(at)):
            drawn = np.random.default_rng([settings.seed, 2]).choice(at, _MOST, replace=False)
            at = np.sort(drawn)
        self._features = self._with_directions(pairs.a[at], pairs.b[at])

    def answer(self, progress: Progress) -> list[Measured]:
        n = len(self._features[0])
        if n < FEWEST:
            return [Measured(one.name, math.nan, n) for one in self._metrics]
        prepared = [self._prepare(one) for one in self._metrics]
        values = [one.value for one in prepared]
        seed, tests = self._settings.seed, self._tests
        nulls: Sequence[Null | None] = [None] * len(prepared)
        if tests.permutations:
            nulls = permutation_nulls(prepared, tests.permutations, seed, progress)
        subsets: Sequence[Null | None] = [None] * len(prepared)
        draw = self._draws() if tests.subsets else None
        if draw is not None:
            subsets = subset_nulls(values, draw, tests.subsets, seed, progress)
        return [
            Measured(one.name, ready.value, n, null, subset, ready.dims_a, ready.dims_b)
            for one, ready, null, subset in zip(
                self._metrics, prepared, nulls, subsets, strict=True
            )
        ]

    def _prepare(self, one: Metric) -> Prepared:
        a, b = self._features
        if one.of_correlations:
            return one.prepare(correlation_matrix(*self._activities(), a, b))
        return one.prepare(*self._directions(a, b))

    def _draws(self) -> Callable[[np.random.Generator], Sequence[float]] | None:
        """Values of random features; None where there are no more than those measured.

        Of all features, random live ones of either SAE, in random pairs; of a category, random
        pairs of the pairing of all features.
        """
        n = len(self._features[0])
        if self._subspace == WHOLE:
            live = [
                np.flatnonzero(
                    (self._comparer.side(one, self._settings.over).activity.n_active > 0)
                    & has_direction(self._comparer.decoder(one))
                )
                for one in (self._a, self._b)
            ]
            if min(map(len, live)) < n:
                return None

            def features(rng: np.random.Generator) -> tuple[Rows, Rows]:
                a, b = (rng.choice(some, n, replace=False) for some in live)
                return a, b

        else:
            whole = self._comparer.pairs(self._a, self._b, self._settings)
            every = self._with_directions(whole.a, whole.b)
            if len(every[0]) <= n:
                return None

            def features(rng: np.random.Generator) -> tuple[Rows, Rows]:
                at = rng.choice(len(every[0]), n, replace=False)
                return every[0][at], every[1][at]

        def draw(rng: np.random.Generator) -> list[float]:
            a, b = features(rng)
            return [self._value(one, a, b) for one in self._metrics]

        return draw

    def _value(self, one: Metric, a: Rows, b: Rows) -> float:
        if one.of_correlations:
            return float(correlations(*self._activities(), a, b).mean())
        return one.prepare(*self._directions(a, b)).value

    def _with_directions(self, a: Rows, b: Rows) -> tuple[Rows, Rows]:
        """The pairs both of whose decoder directions are some: not all zeros."""
        x, y = self._directions(a, b)
        usable = has_direction(x) & has_direction(y)
        return a[usable], b[usable]

    def _directions(self, a: Rows, b: Rows) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._comparer.decoder(self._a)[a], self._comparer.decoder(self._b)[b]

    def _activities(self) -> tuple[Activity, Activity]:
        """Both SAEs' activations on documents that chose no pair, where there are such."""
        a, b = (self._comparer.side(one, self._settings.over) for one in (self._a, self._b))
        if self._settings.method == "lan2024":
            return a.activity, b.activity
        return a.held_out, b.held_out


def _is_bounded(one: Metric, n: int) -> bool:
    return n > _MOST and one.quadratic


class _Recent(Generic[K, V]):
    """What was asked for last, as long as it is not too much in all."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._held: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def get(self, key: K) -> V | None:
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][0]

    def put(self, key: K, value: V, size: int) -> None:
        """Keep it, and drop what was longest not asked for where there is no room for both."""
        self._held[key] = value, size
        while len(self._held) > 1 and sum(size for _, size in self._held.values()) > self._room:
            self._held.popitem(last=False)
