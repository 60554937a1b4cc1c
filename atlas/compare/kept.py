"""Comparisons that an atlas keeps: finds them again, and adds new ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from atlas.compare.nulls import Null
from atlas.compare.pairing import Pairs
from atlas.compare.question import Measured
from atlas.compare.settings import WHOLE, PairingSettings, Tests
from atlas.store import Atlas

if TYPE_CHECKING:
    import duckdb

_NUMBERS = ("r", "r_chosen", "r_held_out", "p", "q", "distance")
"""Columns of `feature_pairs` that may be null, in the order of both tables' rows."""


_KEYWORDS = """
    (select sha256(string_agg(word, ' ' order by word)) from categories where category = $subspace)
"""
"""Of the words that a category has now; null for all features."""


def find_pairing(
    con: duckdb.DuckDBPyConnection,
    a: int,
    b: int,
    settings: PairingSettings,
    subspace: str = WHOLE,
) -> int | None:
    """Id of the newest pairing of two SAEs with these settings; None if none is kept.

    That of a category counts only as long as the category has the words it had then.
    """
    found = con.execute(
        f"""
        select max(pairing_id)
        from pairings
        where sae_a = $a and sae_b = $b and subspace = $subspace
        and method = $method and over = $over and min_joint = $min_joint
        and concepts_only = $concepts_only and shifts = $shifts and seed = $seed
        and keywords is not distinct from {_KEYWORDS}
        """,
        {"a": a, "b": b, "subspace": subspace} | asdict(settings),
    ).fetchall()
    return None if found[0][0] is None else int(found[0][0])


def read_pairs(con: duckdb.DuckDBPyConnection, pairing_id: int) -> Pairs:
    """The pairs of a pairing, as they were computed."""
    columns = ", ".join(f"coalesce({name}, 'nan'::double) as {name}" for name in _NUMBERS)
    found = con.execute(
        f"""
        select
            feature_a - saes_a.first_feature_id as a,
            feature_b - saes_b.first_feature_id as b,
            n_both,
            {columns}
        from feature_pairs
        join pairings using (pairing_id)
        join saes as saes_a on saes_a.sae_id = pairings.sae_a
        join saes as saes_b on saes_b.sae_id = pairings.sae_b
        where pairing_id = ?
        order by feature_pairs.rowid
        """,
        [pairing_id],
    ).fetchnumpy()
    ((n_a, n_b),) = con.execute(
        "select n_a, n_b from pairings where pairing_id = ?", [pairing_id]
    ).fetchall()
    values = {name: np.asarray(column) for name, column in found.items()}
    return Pairs(**values, n_a=n_a, n_b=n_b)


def find_measured(
    con: duckdb.DuckDBPyConnection, pairing_id: int, metric: str, tests: Tests
) -> Measured | None:
    """A metric of a pairing, measured with these tests; None if it is not kept."""
    found = con.execute(
        """
        select value, n, dims_a, dims_b, null_mean, null_sd, p, subset_mean, subset_sd, subset_p
        from comparisons
        where pairing_id = ? and metric = ? and n_permutations = ? and n_subsets = ?
        order by run_id desc
        limit 1
        """,
        [pairing_id, metric, tests.permutations, tests.subsets],
    ).fetchall()
    if not found:
        return None
    value, n, dims_a, dims_b, *nulls = found[0]
    return Measured(
        metric,
        math.nan if value is None else value,
        n,
        _null(nulls[:3], tests.permutations),
        _null(nulls[3:], tests.subsets),
        dims_a,
        dims_b,
    )


def _null(found: Sequence[float | None], m: int) -> Null | None:
    mean, sd, p = found
    if mean is None or sd is None or p is None:
        return None
    return Null(mean, sd, p, m)


def add_pairing(
    atlas: Atlas,
    run_id: int,
    a: int,
    b: int,
    settings: PairingSettings,
    subspace: str,
    pairs: Pairs,
) -> int:
    """Keep a pairing and its pairs; returns its id. Within a transaction of the caller."""
    import pyarrow as pa

    ((pairing_id,),) = atlas.rows("select coalesce(max(pairing_id) + 1, 0) from pairings")
    atlas.execute(
        f"""
        insert into pairings by name
        select
            $pairing_id as pairing_id, $run_id as run_id, $a as sae_a, $b as sae_b,
            $subspace as subspace, {_KEYWORDS} as keywords, $method as method, $over as over,
            $min_joint as min_joint, $concepts_only as concepts_only, $shifts as shifts,
            $seed as seed, $n_a as n_a, $n_b as n_b, $n_pairs as n_pairs
        """,
        {
            "pairing_id": pairing_id, "run_id": run_id, "a": a, "b": b, "subspace": subspace,
            "n_a": pairs.n_a, "n_b": pairs.n_b, "n_pairs": len(pairs.a),
        } | asdict(settings),
    )  # fmt: skip
    firsts = dict(
        atlas.rows("select sae_id, first_feature_id from saes where sae_id in (?, ?)", [a, b])
    )
    columns: dict[str, Any] = {
        "pairing_id": pa.repeat(pa.scalar(pairing_id, pa.int32()), len(pairs.a)),
        "feature_a": pa.array(pairs.a + firsts[a]),
        "feature_b": pa.array(pairs.b + firsts[b]),
        "n_both": pa.array(pairs.n_both),
    }
    for name in _NUMBERS:
        columns[name] = pa.array(getattr(pairs, name), from_pandas=True)  # NaN becomes null
    atlas.insert("feature_pairs", pa.table(columns))
    return int(pairing_id)


def add_measured(
    atlas: Atlas,
    run_id: int,
    pairing_id: int,
    role: str,
    tests: Tests,
    measured: Sequence[Measured],
) -> None:
    """Keep metrics of a pairing, but those that the run has. Within a transaction of the caller."""
    known = atlas.rows(
        "select metric from comparisons where run_id = ? and pairing_id = ? and role = ?",
        [run_id, pairing_id, role],
    )
    for one in measured:
        if (one.metric,) in known:
            continue
        row = {
            "run_id": run_id, "pairing_id": pairing_id, "role": role, "metric": one.metric,
            "value": _number(one.value), "n": one.n, "dims_a": one.dims_a, "dims_b": one.dims_b,
            "n_permutations": tests.permutations, "n_subsets": tests.subsets,
        }  # fmt: skip
        for prefixes, null in ((("null_", "null_", ""), one.null), (("subset_",) * 3, one.subset)):
            for prefix, name in zip(prefixes, ("mean", "sd", "p"), strict=True):
                row[f"{prefix}{name}"] = None if null is None else _number(getattr(null, name))
        columns = ", ".join(f"${name} as {name}" for name in row)
        atlas.execute(f"insert into comparisons by name select {columns}", row)


def correct(atlas: Atlas, run_id: int) -> None:
    """Benjamini and Hochberg's q of a run: over each role's and metric's tests of one kind.

    The whole spaces of all pairs of SAEs are one family, their categories another one.
    """
    from atlas.compare.nulls import benjamini_hochberg

    for p, q in (("p", "q"), ("subset_p", "subset_q")):
        rows = atlas.rows(
            f"""
            select comparisons.rowid, role, metric, subspace = ?, {p}
            from comparisons
            join pairings using (pairing_id)
            where comparisons.run_id = ? and {p} is not null
            """,
            [WHOLE, run_id],
        )
        families: dict[tuple[Any, ...], list[tuple[int, float]]] = {}
        for rowid, *family, value in rows:
            families.setdefault(tuple(family), []).append((rowid, value))
        for tests in families.values():
            corrected = benjamini_hochberg(np.array([value for _, value in tests]))
            for value, (rowid, _) in zip(corrected, tests, strict=True):
                atlas.execute(
                    f"update comparisons set {q} = ? where rowid = ?", [float(value), rowid]
                )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
