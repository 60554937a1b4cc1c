"""Stored pairings and comparisons in SQL: planted truth, plain Python, and what is not known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import atlas
from atlas import Atlas
from tests.synthetic import DEAD, SAES, build_synthetic, concepts

WIDTH = 24


@pytest.fixture(scope="module")
def store(toy: Path) -> Iterator[Atlas]:
    with atlas.open(toy) as opened:
        yield opened


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Atlas]:
    """Five models, `m4` of random weights, with two layers each and no pairing yet."""
    with atlas.create(tmp_path / "scratch.atlas") as made:
        made.execute(
            "insert into models by name select i::integer as model_id, 'm' || i as name,"
            " if(i = 4, 'shuffle=0', null) as randomized from range(5) t(i)"
        )
        made.execute(
            "insert into saes by name select i::integer as sae_id, (i // 2)::integer as model_id,"
            " 'm' || (i // 2) || '/' || (i % 2) || '-resid_post' as name,"
            " (i % 2)::integer as layer, 'resid_post' as hook, 10 as d_sae,"
            " i * 10 as first_feature_id from range(10) t(i)"
        )
        yield made


def keep_pairing(
    store: Atlas, a: int, b: int, pairs: list[tuple[Any, ...]], **settings: Any
) -> int:
    """Store a pairing of SAEs a and b, pairs being (index, index, r, q); return its id."""
    (pairing_id,) = store.row("select count(*) from pairings") or (0,)
    columns = {
        "pairing_id": pairing_id, "run_id": 0, "sae_a": a, "sae_b": b, "subspace": "all",
        "method": "mutual", "over": "words", "min_joint": 20, "concepts_only": False, "shifts": 20,
        "seed": 0, "n_a": 10, "n_b": 10, "n_pairs": len(pairs), **settings,
    }  # fmt: skip
    insert(store, "pairings", **columns)
    for i, j, r, q in pairs:
        insert(
            store, "feature_pairs", pairing_id=pairing_id, feature_a=10 * a + i,
            feature_b=10 * b + j, r=r, r_held_out=r - 0.1, q=q,
        )  # fmt: skip
    return int(pairing_id)


def insert(store: Atlas, table: str, **values: Any) -> None:
    marks = ", ".join("?" * len(values))
    store.execute(
        f"insert into {table} ({', '.join(values)}) values ({marks})", list(values.values())
    )


# ---------- counterparts and pairings


def test_counterparts_are_the_planted_ones_both_ways(store: Atlas) -> None:
    found = set(store.rows("select feature_id, counterpart_id from counterparts where q <= 0.05"))
    live = WIDTH - DEAD
    of = {
        (sae, concept): sae * WIDTH + index
        for sae in range(len(SAES))
        for index, concept in enumerate(concepts(sae)[:live])
    }
    planted = {
        (of[a, concept], of[b, concept])
        for a in range(len(SAES)) for b in range(len(SAES)) if a != b
        for concept in range(live)
    }  # fmt: skip
    assert len(found & planted) >= 0.95 * len(planted)
    assert len(found - planted) <= 0.05 * len(found)
    assert found == {(b, a) for a, b in found}


def test_counterparts_say_what_the_pairs_and_the_measures_say(store: Atlas) -> None:
    rows = store.rows(
        "select r, n_both, feature, counterpart from counterparts using sample 8 rows"
        " (reservoir, 1)"
    )
    assert len(rows) == 8
    for r, n_both, feature, counterpart in rows:
        told = store.row(f"select pearson, n_both from relation('{feature}', '{counterpart}')")
        assert told == (pytest.approx(r, abs=1e-9), n_both)


def test_a_card_counts_a_pairing(store: Atlas) -> None:
    rows = store.rows(
        "select n_pairs, n_significant, paired_a, mean_r, mean_r_held_out from pairing_cards"
        " where sae_a = 'toy-a/0-resid_post' and sae_b = 'toy-c/2-resid_post'"
    )
    ((n, significant, share, r, held_out),) = rows
    counted = store.row(
        "select count(*), count(*) filter (q <= 0.05), avg(r), avg(r_held_out) from feature_pairs"
        " where pairing_id = 2"
    )
    assert counted == (n, significant, pytest.approx(r), pytest.approx(held_out))
    assert share == n / (WIDTH - DEAD)


def test_one_of_several_pairings_decides(scratch: Atlas) -> None:
    def counterpart() -> Any:
        return store_row(scratch, "select counterpart, method from counterparts where feature_id=0")

    keep_pairing(scratch, 0, 2, [(0, 1, 0.9, 0.01)], method="hungarian", run_id=7)
    assert counterpart() == ("m1/0-resid_post/1", "hungarian")
    keep_pairing(scratch, 2, 0, [(2, 0, 0.9, 0.01)], over="tokens")
    assert counterpart() == ("m1/0-resid_post/2", "mutual")
    keep_pairing(scratch, 0, 2, [(0, 3, 0.9, 0.01)], concepts_only=True, run_id=8)
    assert counterpart() == ("m1/0-resid_post/3", "mutual")
    keep_pairing(scratch, 0, 2, [(0, 4, 0.9, None)], shifts=0)
    assert counterpart() == ("m1/0-resid_post/4", "mutual")
    keep_pairing(scratch, 0, 2, [(0, 5, 0.9, 0.01)], run_id=1)
    assert counterpart() == ("m1/0-resid_post/5", "mutual")
    keep_pairing(scratch, 0, 2, [(0, 6, 0.9, 0.01)], run_id=2)
    assert counterpart() == ("m1/0-resid_post/6", "mutual")
    keep_pairing(scratch, 0, 2, [(0, 9, 0.9, 0.051)], shifts=5, run_id=9)
    assert counterpart() == ("m1/0-resid_post/6", "mutual")  # of the finer p
    keep_pairing(scratch, 0, 2, [(0, 7, 0.9, 0.01)], method="best", run_id=9)
    keep_pairing(scratch, 0, 2, [(0, 8, 0.9, 0.01)], subspace="time", run_id=9)
    keep_pairing(scratch, 0, 0, [(0, 0, 1.0, 0.01)], run_id=9)
    assert counterpart() == ("m1/0-resid_post/6", "mutual")


def store_row(store: Atlas, query: str) -> Any:
    (row,) = store.rows(query)
    return row


# ---------- universal features


def test_every_planted_concept_is_universal_and_consistent(store: Atlas) -> None:
    rows = store.rows("from universal_features where n_models >= 3 and consistent")
    assert len(rows) >= 0.95 * len(SAES) * (WIDTH - DEAD)
    for members in store.rows("select unnest([members]) from universal_sets()"):
        assert len({concepts(i // WIDTH)[i % WIDTH] for i in members[0]}) == 1


def test_universal_features_against_plain_python(tmp_path: Path) -> None:
    """On a corpus so small that chance makes pairs too, for several thresholds."""
    path = build_synthetic(tmp_path / "small.atlas", documents=8, seed=3)
    with atlas.open(path, write=True) as store:
        # Agreement that is not complete.
        store.execute("delete from feature_pairs where (feature_a * 7 + feature_b) % 5 = 0")
        store.execute("delete from feature_pairs where pairing_id = 4")
        store.execute("delete from pairings where pairing_id = 4")
        links = store.rows(
            "select feature_id, counterpart_id, r, q, model, counterpart_model from counterparts"
        )
        model = dict(enumerate(m for (m,) in store.rows(
            "select model from feature_names order by feature_id"
        )))  # fmt: skip
        stored = {frozenset(two) for two in store.rows("select sae_a, sae_b from pairings")}
        for max_q, min_r in ((0.05, 0.0), (1.0, 0.6)):
            expected = plain_universal(links, model, stored, max_q, min_r)
            found = store.rows(
                "select feature_id, n_models, consistent, n_links, n_checked, n_agreed, weakest_r,"
                " weakest_q, list_transform(counterparts, lambda c: c.feature_id), members"
                f" from universal(at_least := 2, max_q := {max_q}, min_r := {min_r})"
            )
            assert {row[0]: row[1:] for row in found} == expected
            assert len({row[2] for row in found}) == 3  # true, false and unknown all occur


def plain_universal(
    links: list[tuple[Any, ...]], model: dict[int, str], stored: set[frozenset[int]],
    max_q: float, min_r: float,
) -> dict[int, tuple[Any, ...]]:  # fmt: skip
    kept = {(a, b): (r, q) for a, b, r, q, m, n in links if m != n and q <= max_q and r >= min_r}
    out = {}
    for feature in {a for a, _ in kept}:
        best: dict[str, int] = {}
        for a, b in sorted(kept, key=lambda two: (-kept[two][0], two[1])):
            if a == feature:
                best.setdefault(model[b], b)
        mine = list(best.values())
        two = [(x, y) for i, x in enumerate(mine) for y in mine[i + 1 :]]
        checked = [(x, y) for x, y in two if frozenset((x // WIDTH, y // WIDTH)) in stored]
        agreed = [pair for pair in checked if pair in kept]
        consistent = None
        if len(agreed) < len(checked):
            consistent = False
        elif two and len(checked) == len(two):
            consistent = True
        out[feature] = (
            1 + len(mine), consistent, len(two), len(checked), len(agreed),
            min(kept[feature, b][0] for b in mine), max(kept[feature, b][1] for b in mine),
            mine, sorted([feature, *mine]),
        )  # fmt: skip
    return out


def test_what_is_not_known_is_null(scratch: Atlas) -> None:
    keep_pairing(scratch, 0, 2, [(0, 0, 0.9, 0.01)])
    query = "select n_models, n_compared, consistent, n_links, n_checked, n_agreed"
    query += " from universal_features where feature = 'm0/0-resid_post/0'"
    assert store_row(scratch, query) == (2, 2, None, 0, 0, 0)
    keep_pairing(scratch, 0, 4, [(0, 0, 0.8, 0.01)])
    assert store_row(scratch, query) == (3, 3, None, 1, 0, 0)
    keep_pairing(scratch, 0, 6, [(1, 1, 0.8, 0.01)])
    assert store_row(scratch, query) == (3, 4, None, 1, 0, 0)
    keep_pairing(scratch, 2, 4, [])
    assert store_row(scratch, query) == (3, 4, False, 1, 1, 0)
    keep_pairing(scratch, 4, 2, [(0, 0, 0.5, 0.2)], run_id=1)
    assert store_row(scratch, query) == (3, 4, False, 1, 1, 0), "not by the same standard"
    keep_pairing(scratch, 4, 2, [(0, 0, 0.5, 0.04)], run_id=2)
    assert store_row(scratch, query) == (3, 4, True, 1, 1, 1)
    assert store_row(scratch, "select features, weakest_r, weakest_q from universal_sets()") == (
        ["m0/0-resid_post/0", "m1/0-resid_post/0", "m2/0-resid_post/0"], 0.5, 0.04,
    )  # fmt: skip


def test_the_best_layer_stands_for_a_model(scratch: Atlas) -> None:
    keep_pairing(scratch, 0, 2, [(0, 0, 0.5, 0.01)])
    keep_pairing(scratch, 0, 3, [(0, 7, 0.9, 0.01)])
    keep_pairing(scratch, 0, 1, [(0, 3, 0.9, 0.01)])  # another layer of the same model
    row = "select n_models, counterparts from universal_features where feature_id = 0"
    n_models, counterparts = store_row(scratch, row)
    assert n_models == 2
    assert [(c["feature"], c["model"], c["r"]) for c in counterparts] == [
        ("m1/1-resid_post/7", "m1", 0.9)
    ]


def test_random_models_and_chance_are_no_evidence(scratch: Atlas) -> None:
    keep_pairing(scratch, 0, 8, [(0, 0, 0.9, 0.01)])
    keep_pairing(scratch, 0, 2, [(0, 0, 0.9, 0.06), (1, 1, 0.9, None)])
    assert scratch.rows("from universal_features") == []
    assert store_row(scratch, "select count(*) from universal(at_least := 2, max_q := 0.1)") == (2,)
    assert scratch.rows("from universal(at_least := 2, max_q := 0.1, min_r := 0.95)") == []
    assert store_row(scratch, "select count(*) from counterparts") == (6,)


def test_a_million_pairs_take_seconds_at_most(tmp_path: Path) -> None:
    """160 pairings of 6,250 pairs; the limit leaves room for a busy machine."""
    d_sae, rng = 8192, np.random.default_rng(0)
    with atlas.create(tmp_path / "wide.atlas") as store:
        store.execute(
            "insert into models by name select i::integer as model_id, 'm' || i as name"
            " from range(5) t(i)"
        )
        store.execute(
            "insert into saes by name select i::integer as sae_id, (i // 4)::integer as model_id,"
            " 'm' || (i // 4) || '/' || (i % 4) || '-resid_post' as name,"
            f" (i % 4)::integer as layer, {d_sae} as d_sae, i * {d_sae} as first_feature_id"
            " from range(20) t(i)"
        )
        store.execute(
            "insert into pairings by name select"
            " (row_number() over (order by a.sae_id, b.sae_id) - 1)::integer as pairing_id,"
            " 0 as run_id, a.sae_id as sae_a, b.sae_id as sae_b, 'all' as subspace,"
            " 'mutual' as method, 'words' as over, false as concepts_only, 20 as shifts"
            " from saes a join saes b on a.model_id < b.model_id"
        )
        columns: dict[str, list[np.ndarray]] = {"feature_a": [], "feature_b": []}
        for a, b in store.rows("select sae_a, sae_b from pairings order by pairing_id"):
            index = rng.permutation(d_sae)[:6250]
            columns["feature_a"].append(index + a * d_sae)
            columns["feature_b"].append(index + b * d_sae)
        table = pa.table(
            {name: np.concatenate(parts) for name, parts in columns.items()}
            | {"pairing_id": np.repeat(np.arange(160, dtype="i4"), 6250)}
            | {"r": rng.random(10**6), "q": rng.random(10**6) / 10}
        )
        store.insert("feature_pairs", table)
        taken = []
        for _ in range(2):
            begin = time.process_time()
            store.rows("select count(counterparts), sum(n_agreed) from universal_features")
            taken.append(time.process_time() - begin)
    # Of all threads together; some 2 where nothing else runs.
    assert min(taken) < 6


# ---------- comparisons against ceiling and floor


def compared(store: Atlas, run: int, role: str, a: int, b: int, value: float, **more: Any) -> None:
    pairing = keep_pairing(store, a, b, [], **{"run_id": run, **more})
    insert(
        store, "comparisons", run_id=run, pairing_id=pairing, role=role, metric="cka", value=value,
        null_mean=0.5, null_sd=0.1, p=0.01, q=0.02, n=5, n_permutations=99,
    )  # fmt: skip


def test_a_value_lies_between_floor_and_ceiling(scratch: Atlas) -> None:
    """m0 × m1; m2 stands for another seed of m0, m4 is m0 with random weights."""
    compared(scratch, 1, "pair", 0, 2, 0.8)
    query = "select sae_a, sae_b, calibrated, floor, ceiling, position from universality"
    query += " order by sae_id_a, sae_id_b"
    pair = ("m0/0-resid_post", "m1/0-resid_post", pytest.approx(0.6))
    assert scratch.rows(query) == [(*pair, None, None, None)]
    compared(scratch, 1, "ceiling", 0, 4, 0.95)
    assert scratch.rows(query) == [(*pair, None, pytest.approx(0.9), None)]
    compared(scratch, 1, "floor", 8, 2, 0.55)
    between = (pytest.approx(0.1), pytest.approx(0.9), pytest.approx(0.5 / 0.8))
    assert scratch.rows(query) == [(*pair, *between)]
    # What is of another run, layer, setting, subspace or metric has no part in it.
    compared(scratch, 2, "floor", 8, 2, 0.9)
    compared(scratch, 1, "floor", 9, 2, 0.9)
    compared(scratch, 1, "floor", 8, 3, 0.9)
    compared(scratch, 1, "floor", 8, 2, 0.9, min_joint=50)
    compared(scratch, 1, "floor", 8, 2, 0.9, subspace="time")
    compared(scratch, 1, "ceiling", 1, 5, 0.6)
    assert scratch.rows(query) == [(*pair, *between)]
    # Several stand for their mean.
    compared(scratch, 1, "ceiling", 0, 6, 0.85)
    assert scratch.rows(query)[0][4] == pytest.approx(0.8)


def test_the_newest_run_answers(scratch: Atlas) -> None:
    compared(scratch, 1, "pair", 0, 2, 0.8)
    compared(scratch, 3, "pair", 0, 2, 0.9)
    compared(scratch, 2, "pair", 0, 2, 0.7)
    compared(scratch, 2, "pair", 0, 2, 0.6, method="best")
    rows = scratch.rows("select method, value, run_id from universality order by method")
    assert rows == [("best", 0.6, 2), ("mutual", 0.9, 3)]


def test_calibrated_is_null_where_chance_gives_one(scratch: Atlas) -> None:
    compared(scratch, 1, "pair", 0, 2, 1.0)
    scratch.execute("update comparisons set null_mean = 1 - 1e-9")
    assert store_row(scratch, "select value, calibrated from universality") == (1.0, None)


def test_stored_comparisons_of_the_toy_models_are_far_above_chance(store: Atlas) -> None:
    rows = store.rows("select calibrated, q, subset_q from universality where metric = 'cka'")
    assert len(rows) == 6
    assert all(calibrated > 0.5 and q < 0.05 and s < 0.05 for calibrated, q, s in rows)


def test_without_python_the_views_work(toy: Path) -> None:
    with Atlas.open(toy) as bare:
        for view in ("counterparts", "pairing_cards", "universality", "universal_features"):
            assert bare.rows(f"from {view} limit 1")
