"""Serves the SQL macro gates(): from activations, once for each question."""

from __future__ import annotations

import threading
import weakref
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb
    import pyarrow

    from atlas.lineage.gates import Found, GateSettings
    from atlas.store import Atlas

GATES = """struct(
    output varchar, kind varchar, inputs varchar[], confirmed boolean,
    sufficiency double, sufficiency_held_out double, necessity double, necessity_held_out double,
    lift double, lift_held_out double, lifts double[],
    jaccard double, jaccard_held_out double,
    single varchar, single_jaccard double, single_jaccard_held_out double,
    p_held_out double, q_held_out double,
    n_gate bigint, n_output bigint, n_both bigint,
    n_gate_held_out bigint, n_output_held_out bigint, n_both_held_out bigint,
    over varchar, output_id bigint, input_ids bigint[], single_id bigint
)[]"""

_REMEMBERED = 8
"""Questions whose answers are held; one takes minutes for wide SAEs, and is a few MB."""


def install(atlas: Atlas) -> None:
    """Redirect the stub `_gates` to Python, on all cursors of `atlas`."""
    kernel = _Gates(atlas)
    # DuckDB counts a function's parameters and evaluates their annotations.
    atlas.register_kernel(
        "_gates",
        lambda a, b, c, d, e, f, g, h, i: kernel(a, b, c, d, e, f, g, h, i),
        ["VARCHAR"] * 2 + ["VARCHAR[]", "INTEGER", *["DOUBLE"] * 3, "INTEGER", "DOUBLE"],
        GATES,
    )


class _Gates:
    """The kernel of gates(): a list of gates for each row of arguments."""

    def __init__(self, atlas: Atlas) -> None:
        # The connection holds the kernel, so the kernel must not hold the atlas.
        self._atlas = weakref.ref(atlas)
        self._lock = threading.Lock()
        self._stamp = ""
        self._answers: dict[tuple[int, int, GateSettings], pyarrow.StructArray] = {}

    def __call__(self, *columns: pyarrow.ChunkedArray) -> pyarrow.Array:
        import numpy as np
        import pyarrow as pa

        from atlas.lineage.gates import GateSettings

        asked = zip(*(one.to_pylist() for one in columns), strict=True)
        with closing(self._opened().cursor()) as con, self._lock:
            parts = [
                self._answer(con, int(a), int(b), GateSettings(tuple(dict.fromkeys(kinds)), *given))
                for a, b, kinds, *given in asked
            ]
        offsets = np.cumsum([0, *map(len, parts)], dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.concat_arrays(parts))

    def _opened(self) -> Atlas:
        atlas = self._atlas()
        if atlas is None:
            raise RuntimeError("The atlas is closed; open it again with atlas.open().")
        return atlas

    def _answer(
        self, con: duckdb.DuckDBPyConnection, a: int, b: int, settings: GateSettings
    ) -> pyarrow.StructArray:
        ((stamp,),) = con.execute("select value from meta where key = 'stamp'").fetchall()
        if stamp != self._stamp:
            self._stamp = stamp
            self._answers.clear()
        key = (a, b, settings)
        if key not in self._answers:
            self._answers[key] = _gates_between(con, a, b, settings)
            if len(self._answers) > _REMEMBERED:
                del self._answers[next(iter(self._answers))]
        return self._answers[key]


def _gates_between(
    con: duckdb.DuckDBPyConnection, sae_a: int, sae_b: int, settings: GateSettings
) -> pyarrow.StructArray:
    from atlas.compare.activity import read_activity, read_documents
    from atlas.lineage.gates import find_gates

    saes = con.execute(
        """
        select saes.name, saes.first_feature_id, models.tokenizer_id
        from saes
        join models on models.model_id = saes.model_id
        where saes.sae_id in (?, ?)
        order by saes.sae_id = ?
        """,
        [sae_a, sae_b, sae_b],
    ).fetchall()
    (name_a, first_a, tokenizer_a), (name_b, first_b, tokenizer_b) = saes[0], saes[-1]
    over: Any = "tokens" if tokenizer_a == tokenizer_b else "words"
    a = read_activity(con, sae_a, over)
    b = a if sae_a == sae_b else read_activity(con, sae_b, over)
    found = find_gates(a, b, read_documents(con, sae_a, over), settings)
    return _as_arrow(found, (name_a, first_a), (name_b, first_b), over)


def _as_arrow(
    found: Sequence[Found], inputs_sae: tuple[str, int], outputs_sae: tuple[str, int], over: str
) -> pyarrow.StructArray:
    """The gates as structs with names and ids; SAEs as (name, first feature_id)."""
    import numpy as np
    import pyarrow as pa

    (name_a, first_a), (name_b, first_b) = inputs_sae, outputs_sae

    def named(sae: str, indices: list[Any]) -> Any:
        return pa.array([None if i is None else f"{sae}/{i}" for i in indices], pa.string())

    parts = []
    for gates in found:
        n, k = gates.inputs.shape
        offsets = pa.array(np.arange(0, n * k + 1, k, dtype=np.int32))

        def lists(values: Any, offsets: Any = offsets) -> Any:
            return pa.ListArray.from_arrays(offsets, values)

        # -1, of outputs that no single feature goes with, becomes null.
        single = [None if i < 0 else i for i in gates.single.tolist()]
        columns = {
            "output": named(name_b, gates.output.tolist()),
            "kind": pa.repeat(gates.kind, n),
            "inputs": lists(named(name_a, gates.inputs.ravel().tolist())),
            "confirmed": gates.confirmed,
            "sufficiency": gates.even.sufficiency,
            "sufficiency_held_out": gates.odd.sufficiency,
            "necessity": gates.even.necessity,
            "necessity_held_out": gates.odd.necessity,
            "lift": gates.even.lifts.min(axis=1),
            "lift_held_out": gates.odd.lifts.min(axis=1),
            "lifts": lists(pa.array(gates.even.lifts.ravel())),
            "jaccard": gates.even.jaccard,
            "jaccard_held_out": gates.odd.jaccard,
            "single": named(name_a, single),
            "single_jaccard": gates.single_even,
            "single_jaccard_held_out": gates.single_odd,
            "p_held_out": gates.p_odd,
            "q_held_out": gates.q_odd,
            "n_gate": gates.even.n_gate,
            "n_output": gates.even.n_output,
            "n_both": gates.even.n_both,
            "n_gate_held_out": gates.odd.n_gate,
            "n_output_held_out": gates.odd.n_output,
            "n_both_held_out": gates.odd.n_both,
            "over": pa.repeat(over, n),
            "output_id": first_b + gates.output,
            "input_ids": lists(pa.array(first_a + gates.inputs.ravel())),
            "single_id": pa.array([None if i is None else first_a + i for i in single], pa.int64()),
        }
        arrays = [pa.array(column) for column in columns.values()]
        parts.append(pa.StructArray.from_arrays(arrays, list(columns)))
    return pa.concat_arrays(parts)
