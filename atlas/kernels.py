"""Connects the SQL macros that need Python to the functions that serve them.

Nothing heavy is imported until a macro is first called, so that commands which call none start
fast. A kernel runs on DuckDB's threads, several at once, inside a query of the very connection
that called it; so it reads the atlas through a cursor of its own.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import closing
from typing import TYPE_CHECKING

from atlas import comparing, relating

if TYPE_CHECKING:
    import duckdb
    import pyarrow

    from atlas.neighbours import Hits, Neighbours
    from atlas.store import Atlas

_HITS = "struct(rank integer, feature varchar, score double, feature_id bigint)[]"


def install(atlas: Atlas) -> None:
    """Redirect every stub macro of `atlas` to its Python function, on all its cursors."""
    similar = _Similar(atlas)
    atlas.register_kernel(
        "_similar",
        # DuckDB evaluates a function's annotations, and ours name types not imported yet.
        lambda feature, k, by, within: similar(feature, k, by, within),
        ["VARCHAR", "INTEGER", "VARCHAR", "VARCHAR"],
        _HITS,
    )
    comparing.install(atlas)
    relating.install(atlas)


class _Similar:
    """The kernel of similar(): a batch of up to 2,048 rows in, a list of hits for each out."""

    def __init__(self, atlas: Atlas) -> None:
        # The connection holds the kernel, so the kernel must not hold the atlas.
        self._atlas = weakref.ref(atlas)
        self._lock = threading.Lock()
        self._neighbours: Neighbours | None = None

    def __call__(
        self,
        feature: pyarrow.ChunkedArray,
        k: pyarrow.ChunkedArray,
        by: pyarrow.ChunkedArray,
        within: pyarrow.ChunkedArray,
    ) -> pyarrow.Array:
        neighbours = self._current()
        asked = list(zip(k.to_pylist(), by.to_pylist(), within.to_pylist(), strict=True))
        features = feature.to_pylist()
        found: list[Hits | None] = [None] * len(features)
        # Nearly always one group: the same k, by and within for the whole batch.
        for group in dict.fromkeys(asked):
            mine = [i for i, one in enumerate(asked) if one == group]
            hits = neighbours.similar([features[i] for i in mine], *group)
            for i, one in zip(mine, hits, strict=True):
                found[i] = one
        return _as_arrow(neighbours, [one for one in found if one is not None])

    def _connect(self) -> duckdb.DuckDBPyConnection:
        return self._opened().cursor()

    def _opened(self) -> Atlas:
        atlas = self._atlas()
        if atlas is None:
            raise RuntimeError("The atlas is closed; open it again with atlas.open().")
        return atlas

    def _current(self) -> Neighbours:
        """Opened for reading, the atlas cannot change: its lock keeps every writer out."""
        from atlas.neighbours import Neighbours

        atlas = self._opened()
        with self._lock:
            if self._neighbours is None or atlas.writable:
                with closing(self._connect()) as con:
                    found = con.execute("select value from meta where key = 'stamp'").fetchall()
                stamp = found[0][0]
                if self._neighbours is None or self._neighbours.stamp != stamp:
                    self._neighbours = Neighbours(atlas.path, stamp, self._connect)
            return self._neighbours


def _as_arrow(neighbours: Neighbours, hits: list[Hits]) -> pyarrow.Array:
    import numpy as np
    import pyarrow as pa

    lengths = [len(one.row) for one in hits]
    rows = np.concatenate([one.row for one in hits])
    named = list(neighbours.named(rows))
    values = pa.StructArray.from_arrays(
        [
            pa.array(np.concatenate([np.arange(1, n + 1, dtype=np.int32) for n in lengths])),
            pa.array([name for name, _ in named], pa.string()),
            pa.array(np.concatenate([one.score for one in hits])),
            pa.array([feature_id for _, feature_id in named], pa.int64()),
        ],
        ["rank", "feature", "score", "feature_id"],
    )
    offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    return pa.ListArray.from_arrays(pa.array(offsets), values)
