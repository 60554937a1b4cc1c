"""Relations of neighbouring layers: planted ones are found, and the rules are NumPy's."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import atlas
from atlas import Atlas
from tests.planted_layers import DEPTH, MIN_JOINT, N_UNITS, WIDTH, PlantedLayers, strong
from tests.synthetic_pairs import correlations

Pair = tuple[int, int]
STEPS = [*itertools.pairwise(range(DEPTH)), (4, 5), (5, 6)]
"""Neighbouring SAEs, by sae_id: four layers of one model, three of the other."""


@pytest.fixture(scope="module")
def store(layers: PlantedLayers) -> Iterator[Atlas]:
    with atlas.open(layers.path) as opened:
        yield opened


def precision_and_recall(found: Iterable[Any], true: Iterable[Any]) -> tuple[float, float]:
    found, true = set(found), set(true)
    both = len(found & true)
    return both / len(found), both / len(true)


def ids(store: Atlas, query: str) -> list[int]:
    return [row[0] for row in store.rows(query)]


# -- planted ------------------------------------------------------------------------------------


def within_layers(layers: PlantedLayers) -> set[Pair]:
    """(wider, narrower) of one layer, as far as they follow from what was planted."""
    truth = layers.truth
    onward = dict(truth.passes)
    within: set[Pair] = set()
    for layer in range(1, DEPTH):
        mine = layers.ids(layers.saes[layer])
        for parent, child in downward(layers):
            if child in mine and parent in onward:
                within.add((onward[parent], child))
        for parent, child in truth.generalised:
            if child in mine and parent in onward:
                within.add((child, onward[parent]))
        carried = {
            (onward[wide], onward[narrow])
            for wide, narrow in within
            if wide in onward and narrow in onward and onward[wide] in mine
        }
        within |= carried
    return within


def downward(layers: PlantedLayers) -> set[Pair]:
    """(parent, child) of children planted as a part of the parent."""
    truth = layers.truth
    found = set(truth.specialised)
    found |= {(parent, child) for parent, children in truth.splits for child in children}
    for gate in truth.gates:
        if gate.kind != "or":
            # A gate of chance is never without its first input either.
            kept = gate.inputs if gate.kind in ("and", "and3") else gate.inputs[:1]
            found |= {(one, gate.output) for one in kept}
    return found


def specialised(layers: PlantedLayers) -> set[Pair]:
    onward = dict(layers.truth.passes)
    return downward(layers) | {
        (wide, onward[narrow]) for wide, narrow in within_layers(layers) if narrow in onward
    }


def generalised(layers: PlantedLayers) -> set[Pair]:
    onward = dict(layers.truth.passes)
    found = set(layers.truth.generalised)
    found |= {
        (i, gate.output) for gate in layers.truth.gates if gate.kind == "or" for i in gate.inputs
    }
    return found | {
        (narrow, onward[wide]) for wide, narrow in within_layers(layers) if wide in onward
    }


def test_planted_passes_births_and_ends_are_found(store: Atlas, layers: PlantedLayers) -> None:
    truth = layers.truth
    passed = store.rows(
        "select feature_id, successor_id, mutual from passed_through where sae like 'deep/%'"
    )
    assert precision_and_recall([row[:2] for row in passed], truth.passes) >= (0.98, 0.98)
    assert all(mutual for *_, mutual in passed)
    born = ids(store, "select feature_id from appearing where sae like 'deep/%'")
    assert precision_and_recall(born, truth.born) >= (0.98, 0.98)
    ended = ids(store, "select feature_id from disappearing where sae like 'deep/%'")
    assert precision_and_recall(ended, truth.ended) >= (0.98, 0.98)


@pytest.mark.parametrize("name", ["specialised", "generalised"])
def test_planted_parts_are_found(store: Atlas, layers: PlantedLayers, name: str) -> None:
    """Of what fires often enough to tell; what is found and was not planted is a mistake."""
    down = name == "specialised"
    true = specialised(layers) if down else generalised(layers)
    counts = dict(store.rows("select feature_id, n_active from features"))

    def clear(pair: Pair) -> bool:
        narrow, wide = (counts[one] for one in (pair[::-1] if down else pair))
        return bool(60 <= narrow <= 0.75 * wide)

    limit = "max_sufficiency" if down else "max_necessity"
    rows = store.rows(f"select parent_id, child_id, sae from {name}({limit} := 0.9)")
    found = {row[:2] for row in rows if row[2].startswith("deep/") and clear(row[:2])}
    true = {pair for pair in true if clear(pair)}
    assert len(true) >= 15
    precision, recall = precision_and_recall(found, true)
    assert precision >= 0.95
    assert recall >= 0.95


def test_planted_splits_and_merges_are_found(store: Atlas, layers: PlantedLayers) -> None:
    truth = layers.truth
    parts = "list_sort(list_transform(parts, lambda p: p.id))"
    found = {
        name: [
            (feature, tuple(members))
            for feature, members in store.rows(
                f"select feature_id, {parts} from {name} where sae like 'deep/%'"
            )
        ]
        for name in ("splits", "merges")
    }
    splits = {(parent, tuple(sorted(children))) for parent, children in truth.splits}
    precision, recall = precision_and_recall(found["splits"], splits)
    assert precision >= 0.8
    assert recall == 1
    merges = {(g.output, tuple(sorted(g.inputs))) for g in truth.gates if g.kind == "or"}
    precision, recall = precision_and_recall(found["merges"], merges)
    assert precision >= 0.8
    assert recall == 1


# -- the rules ----------------------------------------------------------------------------------


def measures(layers: PlantedLayers, a: int, b: int, *, strongly: bool) -> dict[str, np.ndarray]:
    """Of all pairs of two SAEs: n_a, n_b, n_both, and r where the pair is stored, else NaN."""
    A, B = layers.q[a], layers.q[b]
    stored = ((A > 0).astype("f8").T @ (B > 0)) >= MIN_JOINT
    on_a, on_b = (strong(A), strong(B)) if strongly else (A > 0, B > 0)
    both = on_a.astype("f8").T @ on_b
    r = np.where(stored, correlations(A, B), np.nan)
    n_a, n_b = np.broadcast_arrays(on_a.sum(0)[:, None], on_b.sum(0)[None])
    return {"n_a": n_a, "n_b": n_b, "both": np.where(stored, both, np.nan), "r": r}


@pytest.mark.parametrize("at_least", [0.2, 0.95])
@pytest.mark.parametrize("measure", ["pearson", "jaccard"])
def test_passing_follows_the_rule(
    store: Atlas, layers: PlantedLayers, measure: str, at_least: float
) -> None:
    given = f"at_least := {at_least}, measure := '{measure}'"
    passed = {
        feature: (successor, value, mutual)
        for feature, successor, value, mutual in store.rows(
            f"select feature_id, successor_id, value, mutual from passed_through({given})"
        )
    }
    gone = set(ids(store, f"select feature_id from disappearing({given}, dead := true)"))
    come = set(ids(store, f"select feature_id from appearing({given}, dead := true)"))
    live = {"gone": ids(store, f"select feature_id from disappearing({given})"),
            "come": ids(store, f"select feature_id from appearing({given})")}  # fmt: skip
    alive = np.concatenate([(q > 0).any(0) for q in layers.q])
    seen: dict[str, set[int]] = {"passed": set(), "gone": set(), "come": set()}
    for a, b in STEPS:
        m = measures(layers, a, b, strongly=False)
        value = m["r"] if measure == "pearson" else m["both"] / (m["n_a"] + m["n_b"] - m["both"])
        value = np.nan_to_num(value, nan=-2.0)
        for i in range(WIDTH):
            feature, j = WIDTH * a + i, int(value[i].argmax())
            if value[i, j] >= at_least:
                successor, told, mutual = passed[feature]
                assert successor == WIDTH * b + j
                assert told == pytest.approx(value[i, j], rel=1e-9)
                assert mutual == (value[:, j].argmax() == i)
                seen["passed"].add(feature)
            else:
                seen["gone"].add(feature)
        seen["come"] |= {WIDTH * b + j for j in np.flatnonzero(value.max(0) < at_least).tolist()}
    assert set(passed) == seen["passed"]
    assert gone == seen["gone"]
    assert come == seen["come"]
    assert set(live["gone"]) == {i for i in gone if alive[i]}
    assert set(live["come"]) == {i for i in come if alive[i]}


def test_who_is_too_rare_to_tell_is_marked(store: Atlas, layers: PlantedLayers) -> None:
    rows = store.rows("select feature_id, n_active, tested from disappearing(dead := true)")
    assert {tested for *_, tested in rows} == {True, False}
    for feature, n_active, tested in rows:
        assert n_active == (layers.q[feature // WIDTH][:, feature % WIDTH] > 0).sum()
        assert tested == (n_active >= MIN_JOINT)


def wilson(k: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Limits of the 95 % score interval of k of n."""
    z = 1.959963984540054
    centre, spread = k + z * z / 2, z * np.sqrt(k * (n - k) / n + z * z / 4)
    return (centre - spread) / (n + z * z), (centre + spread) / (n + z * z)


@pytest.mark.parametrize("strongly", [False, True])
@pytest.mark.parametrize("name", ["specialised", "generalised"])
def test_parts_follow_the_rule(
    store: Atlas, layers: PlantedLayers, name: str, strongly: bool
) -> None:
    high, low = ("necessity", "sufficiency")[:: 1 if name == "specialised" else -1]
    given = f"min_{high} := 0.8, max_{low} := 0.7, min_lift := 3, strong := {strongly}"
    found = {
        row[:2]: row[2:]
        for row in store.rows(
            "select parent_id, child_id, necessity, sufficiency, lift, n_parent, n_child, n_both"
            f" from {name}({given})"
        )
    }
    expected = set()
    with np.errstate(invalid="ignore", divide="ignore"):
        for a, b in STEPS:
            m = measures(layers, a, b, strongly=strongly)
            narrow, wide = (m["n_b"], m["n_a"])[:: 1 if name == "specialised" else -1]
            lift = m["both"] * N_UNITS / (m["n_a"] * m["n_b"])
            keep = (wilson(m["both"], narrow)[0] >= 0.8) & (wilson(m["both"], wide)[1] <= 0.7)
            keep &= lift >= 3
            for i, j in zip(*np.nonzero(keep), strict=True):
                both, n_a, n_b = (int(m[key][i, j]) for key in ("both", "n_a", "n_b"))
                pair = (WIDTH * a + int(i), WIDTH * b + int(j))
                told = (both / n_b, both / n_a, lift[i, j], n_a, n_b, both)
                assert found[pair] == pytest.approx(told, rel=1e-9)
                expected.add(pair)
    assert set(found) == expected
    assert len(expected) > 10


@pytest.mark.parametrize("strongly", [False, True])
@pytest.mark.parametrize("name", ["splits", "merges"])
def test_cover_is_counted_on_activations(
    store: Atlas, layers: PlantedLayers, name: str, strongly: bool
) -> None:
    given = f"min_cover := 0.4, min_within := 0.5, strong := {strongly}"
    rows = store.rows(
        "select feature_id, list_transform(parts, lambda p: p.id), list_transform(parts, lambda p:"
        f" p.share), cover, overlap, n_active from {name}({given})"
    )
    assert len(rows) >= 9
    on = [strong(q) if strongly else q > 0 for q in layers.q]
    for feature, parts, shares, cover, overlap, n_active in rows:
        whole = on[feature // WIDTH][:, feature % WIDTH]
        each = np.array([on[part // WIDTH][:, part % WIDTH][whole] for part in parts])
        assert len(parts) >= 2
        assert n_active == whole.sum()
        assert cover == pytest.approx(each.any(0).mean())
        assert overlap == pytest.approx(each.sum(0)[each.any(0)].mean())
        assert shares == sorted(shares, reverse=True)
        assert shares == pytest.approx(each.mean(1).tolist())


# -- names, and nothing there ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["specialised", "generalised"])
def test_what_is_the_same_is_no_part(store: Atlas, name: str) -> None:
    columns = "parent_id, child_id"
    loose = "0.5, 0.99, 1.5"
    every = set(store.rows(f"select {columns} from {name}({loose}, max_pearson := 2)"))
    same = set(
        store.rows(
            f"select {columns} from {name}({loose}, max_pearson := 2) join edges"
            " on feature_id_a = parent_id and feature_id_b = child_id where pearson >= 0.5"
        )
    )
    assert 0 < len(same) < len(every)
    assert set(store.rows(f"select {columns} from {name}({loose}, max_pearson := 0.5)")) == (
        every - same
    )


@pytest.mark.parametrize("name", ["splits", "merges"])
def test_parts_that_repeat_each_other_divide_nothing(store: Atlas, name: str) -> None:
    loose = "min_cover := 0.3, min_within := 0.5, max_share := 0.99, min_lift := 1.2"
    every = store.rows(f"select feature_id, overlap from {name}({loose}, max_overlap := 1000)")
    few = store.rows(f"select feature_id, overlap from {name}({loose}, max_overlap := 1.05)")
    assert sorted(few) == sorted(row for row in every if row[1] <= 1.05)
    assert 0 < len(few) < len(every)


def test_names_go_with_ids(store: Atlas, layers: PlantedLayers) -> None:
    for view, columns in {
        "passed_through": {"feature": "feature_id", "successor": "successor_id"},
        "appearing": {"feature": "feature_id", "predecessor": "predecessor_id"},
        "disappearing": {"feature": "feature_id", "successor": "successor_id"},
        "specialised": {"parent": "parent_id", "child": "child_id"},
        "generalised": {"parent": "parent_id", "child": "child_id"},
    }.items():
        for name, key in columns.items():
            for told, one in store.rows(f"select {name}, {key} from {view}"):
                assert told == (None if one is None else layers.name(one))
    for view in ("splits", "merges"):
        rows = store.rows(f"select feature, feature_id, parts from {view}")
        for feature, one, parts in rows:
            assert feature == layers.name(one)
            assert [part["part"] for part in parts] == [layers.name(p["id"]) for p in parts]


def test_other_links_than_of_neighbours_do_not_count(store: Atlas) -> None:
    """Layers 0 and 2 are linked too: what holds between them is no relation of neighbours."""
    for view in ("passed_through", "specialised", "generalised"):
        steps = store.rows(f"select distinct sae, next_sae, next_layer - layer from {view}")
        assert {step for *_, step in steps} == {1}
    assert store.rows("select distinct layer from appearing where layer = 0") == []
    assert store.rows("select 1 from disappearing where sae in ('deep/3-resid_post')") == []


def test_without_links_there_is_nothing(layers: PlantedLayers, tmp_path: Path) -> None:
    path = tmp_path / "unlinked.atlas"
    shutil.copy(layers.path, path)
    with atlas.open(path, write=True) as opened:
        for table in ("links", "coactivations", "strong_activity"):
            opened.execute(f"delete from {table}")
        for view in ("passed_through", "appearing", "disappearing", "specialised", "splits"):
            assert opened.rows(f"from {view}") == []


def test_an_unknown_measure_is_told(store: Atlas) -> None:
    for macro in ("passed_through", "appearing", "disappearing"):
        with pytest.raises(atlas.errors.QueryError, match=r"^measure is 'pearson', .*, not 'cka'"):
            store.rows(f"from {macro}(measure := 'cka')")
