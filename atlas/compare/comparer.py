"""Answers one question about two SAEs: which features pair, or how alike the paired ones are."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from atlas.activations import Over
from atlas.compare.measures import Metric, metric
from atlas.compare.pairing import Pairs, Side, pair, read_side
from atlas.compare.question import FEWEST, Material, Measured, answer
from atlas.compare.semantic import members
from atlas.compare.settings import WHOLE, PairingSettings, Tests
from atlas.directions import read_vectors
from atlas.progress import Progress, Silent

if TYPE_CHECKING:
    import duckdb

    Connect = Callable[[], duckdb.DuckDBPyConnection]

_ENTRIES_KEPT = 100_000_000
"""Activations of SAEs held in memory at a time."""

_PAIRS_KEPT = 10_000_000
_MEASURED_KEPT = 100_000

_NUMBERS_KEPT = 250_000_000
"""Numbers of decoders held in memory at a time: a GB."""

Rows = NDArray[np.int64]

K = TypeVar("K")
V = TypeVar("V")


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

        subspace: 'all', or a category of the table `categories`: then the features that have one of
        its words among their five strongest are paired.
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
                whole = None if subspace == WHOLE else self.pairs(a, b, settings)
                material = self._material(a, b, missing, settings)
                seed = settings.seed
                for one in answer(missing, pairs, whole, material, tests, seed, progress):
                    found[one.metric] = one
                    self._measured.put((*asked, one.metric), one, 1)
            return [one for one in found.values() if one is not None]

    # -- what is read ---------------------------------------------------------------------------

    def _material(
        self, a: int, b: int, metrics: Sequence[Metric], settings: PairingSettings
    ) -> Material:
        ours, theirs = self._side(a, settings.over), self._side(b, settings.over)
        activities = None
        if any(one.of_correlations for one in metrics):
            activities = ours.held_out, theirs.held_out
            if settings.method == "lan2024":  # whose pairs all documents choose
                activities = ours.activity, theirs.activity
        return Material(
            (self._decoder(a), self._decoder(b)),
            (ours.activity.n_active > 0, theirs.activity.n_active > 0),
            activities,
        )

    def _decoder(self, sae_id: int) -> NDArray[np.float32]:
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
