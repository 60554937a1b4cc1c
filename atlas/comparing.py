"""Serves the SQL macros that compare SAEs: the kernels of pairs() and of compare()."""

from __future__ import annotations

import math
import threading
import weakref
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb
    import pyarrow

    from atlas.compare.comparer import Comparer
    from atlas.store import Atlas

PAIRS = """struct(
    feature_a varchar, feature_b varchar, r double, r_chosen double, r_held_out double,
    n_both bigint, p double, q double, distance double, id_a bigint, id_b bigint
)[]"""

COMPARED = """struct(
    value double, calibrated double, null_mean double, null_sd double, p double,
    subset_mean double, subset_sd double, subset_p double, n bigint, dims_a integer, dims_b integer
)"""


def install(atlas: Atlas) -> None:
    """Redirect the stubs `_pairs` and `_compare` to Python, on all cursors of `atlas`."""
    kernels = _Kernels(atlas)
    # DuckDB counts a function's parameters and evaluates their annotations.
    atlas.register_kernel(
        "_pairs",
        lambda a, b, c, d, e, f, g, h: kernels.pairs(a, b, c, d, e, f, g, h),
        ["VARCHAR"] * 4 + ["INTEGER", "BOOLEAN", "INTEGER", "BIGINT"],
        PAIRS,
    )
    atlas.register_kernel(
        "_compare",
        lambda a, b, c, d, e, f, g, h, i, j, k: kernels.compare(a, b, c, d, e, f, g, h, i, j, k),
        ["VARCHAR"] * 6 + ["INTEGER", "BOOLEAN", "INTEGER", "INTEGER", "BIGINT"],
        COMPARED,
    )


class _Kernels:
    """Both kernels of one atlas: what is kept in its tables is read, the rest computed."""

    def __init__(self, atlas: Atlas) -> None:
        # The connection holds the kernels, so they must not hold the atlas.
        self._atlas = weakref.ref(atlas)
        self._lock = threading.Lock()
        self._comparer: Comparer | None = None
        self._state: tuple[Any, ...] = ()

    def pairs(self, *columns: pyarrow.ChunkedArray) -> pyarrow.Array:
        """A list of pairs for each row of arguments, those of the macro `_pairs`."""
        import numpy as np
        import pyarrow as pa

        from atlas.compare import kept
        from atlas.compare.settings import PairingSettings

        comparer = self._current()
        offsets, parts = [0], []
        kind = pa.struct(
            [(name, pa.string()) for name in ("feature_a", "feature_b")]
            + [(name, pa.float64()) for name in ("r", "r_chosen", "r_held_out")]
            + [("n_both", pa.int64())]
            + [(name, pa.float64()) for name in ("p", "q", "distance")]
            + [(name, pa.int64()) for name in ("id_a", "id_b")]
        )
        with closing(self._connect()) as con:
            for a, b, *chosen in zip(*(one.to_pylist() for one in columns), strict=True):
                settings = PairingSettings(*chosen)
                pairing_id = kept.find_pairing(con, int(a), int(b), settings)
                found = (
                    comparer.pairs(int(a), int(b), settings)
                    if pairing_id is None
                    else kept.read_pairs(con, pairing_id)
                )
                values = {}
                for side, sae, index in (("a", a, found.a), ("b", b, found.b)):
                    name, first = _name(con, int(sae))
                    values[f"feature_{side}"] = pa.array([f"{name}/{i}" for i in index.tolist()])
                    values[f"id_{side}"] = pa.array(np.asarray(index) + first)
                for column in kind:
                    if column.name not in values:
                        numbers = getattr(found, column.name)
                        values[column.name] = pa.array(numbers, column.type, from_pandas=True)
                parts.append(
                    pa.StructArray.from_arrays(
                        [values[one.name] for one in kind], fields=list(kind)
                    )
                )
                offsets.append(offsets[-1] + len(found.a))
        rows = pa.concat_arrays(parts) if parts else pa.array([], kind)
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), rows)

    def compare(self, *columns: pyarrow.ChunkedArray) -> pyarrow.Array:
        """A struct for each row of arguments, those of the macro `_compare`."""
        import pyarrow as pa

        from atlas.compare import kept
        from atlas.compare.measures import metric
        from atlas.compare.settings import PairingSettings, Tests

        comparer = self._current()
        rows = []
        with closing(self._connect()) as con:
            for given in zip(*(one.to_pylist() for one in columns), strict=True):
                a, b, name, subspace, method, over, min_joint, concepts_only = given[:8]
                permutations, subsets, seed = given[8:]
                settings = PairingSettings(method, over, min_joint, concepts_only, seed=seed)
                asked = metric(name).name
                tests = Tests(permutations, subsets)
                pairing_id = kept.find_pairing(con, int(a), int(b), settings, subspace)
                found = None
                if pairing_id is not None:
                    found = kept.find_measured(con, pairing_id, asked, tests)
                if found is None:
                    (found,) = comparer.measure(int(a), int(b), [asked], settings, tests, subspace)
                row: dict[str, Any] = {
                    "value": found.value, "calibrated": found.calibrated, "n": found.n,
                    "dims_a": found.dims_a, "dims_b": found.dims_b,
                }  # fmt: skip
                if found.null is not None:
                    row |= {"null_mean": found.null.mean, "null_sd": found.null.sd}
                    row["p"] = found.null.p
                if found.subset is not None:
                    row |= {"subset_mean": found.subset.mean, "subset_sd": found.subset.sd}
                    row["subset_p"] = found.subset.p
                rows.append({key: _known(value) for key, value in row.items()})
        kind = pa.struct(
            [
                (name, pa.float64())
                for name in (
                    *("value", "calibrated", "null_mean", "null_sd", "p"),
                    *("subset_mean", "subset_sd", "subset_p"),
                )
            ]
            + [("n", pa.int64()), ("dims_a", pa.int32()), ("dims_b", pa.int32())]
        )
        return pa.array(rows, kind)

    def _opened(self) -> Atlas:
        atlas = self._atlas()
        if atlas is None:
            raise RuntimeError("The atlas is closed; open it again with atlas.open().")
        return atlas

    def _connect(self) -> duckdb.DuckDBPyConnection:
        return self._opened().cursor()

    def _current(self) -> Comparer:
        """Opened for reading, the atlas cannot change: its lock keeps every writer out."""
        from atlas.compare.comparer import Comparer

        writable = self._opened().writable
        with self._lock:
            if self._comparer is None or writable:
                with closing(self._connect()) as con:
                    state = con.execute(
                        "select (select value from meta where key = 'stamp'),"
                        " (select bit_xor(hash(category, word)) from categories)"
                    ).fetchall()[0]
                if self._comparer is None or self._state != state:
                    self._comparer, self._state = Comparer(self._connect), state
            return self._comparer


def _name(con: duckdb.DuckDBPyConnection, sae_id: int) -> tuple[str, int]:
    ((name, first),) = con.execute(
        "select name, first_feature_id from saes where sae_id = ?", [sae_id]
    ).fetchall()
    return name, first


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
