"""Gates: counts and p against plain NumPy, planted ones found, chance undone by other documents."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

import atlas
from atlas import Atlas
from atlas.compare.activity import Activity
from atlas.errors import BadInput
from atlas.lineage.boolean import KINDS, Postings, truth, truth_by_part
from atlas.lineage.gates import Found, GateSettings, find_gates
from atlas.lineage.held_out import MOST_PARTS, chances, parts_of, sign_flip_bound
from tests.planted_layers import DOCUMENT, WIDTH, PlantedLayers

GATES = "from gates('deep/0-resid_post', 'deep/1-resid_post')"


def activity(q: np.ndarray) -> Activity:
    columns = scipy.sparse.csc_array(q.astype(np.int32))
    return Activity(
        len(q), columns.indptr.astype(np.int64), columns.indices.astype(np.int32), columns.data
    )


def is_true(kind: str, inputs: np.ndarray) -> np.ndarray:
    """Where a gate is true, (n,), from its inputs' activity, bool (n, k)."""
    if kind == "and":
        return inputs.all(1)
    if kind == "or":
        return inputs.any(1)
    return inputs[:, 0] & ~inputs[:, 1:].any(1)


def without(kind: str, inputs: np.ndarray, i: int) -> np.ndarray:
    """Where the gate without input i is true."""
    others = np.delete(inputs, i, axis=1)
    return ~others.any(1) if kind == "and_not" and i == 0 else is_true(kind, others)


def share(part: np.ndarray, whole: np.ndarray) -> float:
    return float(part.sum() / whole.sum()) if whole.any() else 0.0


# -- counts -------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 1000),
    k=st.sampled_from([2, 3]),
    rarest=st.sampled_from([0.002, 0.01, 0.3]),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 1000),
)
def test_every_count_and_share_is_numpys(
    n: int, k: int, rarest: float, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    # Rare and frequent features are counted in two ways, and together in a third.
    A, B = (rng.random((n, d)) < rarest ** rng.uniform(0, 1, d) for d in (6, 3))
    A[:, 5] = False  # never active
    inputs = np.array(list(itertools.permutations(range(6), k)))
    output = rng.integers(0, 3, len(inputs))
    found = truth(Postings(activity(A), activity(B)), kind, inputs, output)
    for row, (features, j) in enumerate(zip(inputs, output, strict=True)):
        gate, out = is_true(kind, A[:, features]), B[:, j]
        assert found.n_gate[row] == gate.sum()
        assert found.n_output[row] == out.sum()
        assert found.n_both[row] == (gate & out).sum()
        assert found.sufficiency[row] == share(gate & out, gate)
        assert found.necessity[row] == share(gate & out, out)
        assert found.jaccard[row] == share(gate & out, gate | out)
        for i in range(k):
            less = without(kind, A[:, features], i)
            assert found.n_without[row, i] == less.sum()
            assert found.n_both_without[row, i] == (less & out).sum()
            before = share(less & out, out if kind == "or" else less)
            after = share(gate & out, out if kind == "or" else gate)
            expected = (after / before if before else np.inf) if after else 0.0
            assert found.lifts[row, i] == pytest.approx(expected)


# -- the test of the held-out documents -----------------------------------------------------------


def by_document(values: np.ndarray, document: np.ndarray) -> np.ndarray:
    return np.bincount(document, values)


@settings(max_examples=30, deadline=None)
@given(
    k=st.sampled_from([2, 3]),
    kind=st.sampled_from(KINDS),
    rarest=st.sampled_from([0.002, 0.3]),
    seed=st.integers(0, 1000),
)
def test_p_is_that_of_every_claim_summed_by_document(
    k: int, kind: str, rarest: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    n = 600
    A, B = (rng.random((n, d)) < rarest ** rng.uniform(0, 1, d) for d in (5, 2))
    document = np.sort(rng.integers(0, 12, n)) * 7 + 3
    inputs = np.array(list(itertools.permutations(range(5), k)))[:20]
    output, single = rng.integers(0, 2, len(inputs)), rng.integers(-1, 5, len(inputs))
    postings, part = Postings(activity(A), activity(B)), parts_of(document)
    found = chances(postings, part, kind, inputs, output, single)
    counts = truth_by_part(postings, part, kind, inputs, output)
    for row, (features, j, other) in enumerate(zip(inputs, output, single, strict=True)):
        gate, out = is_true(kind, A[:, features]), B[:, j]
        alone = A[:, other] if other >= 0 else np.zeros(n, bool)
        assert (counts.n_both[row] == by_document(gate & out, part)).all()
        claims = []
        for i in range(k):
            less = without(kind, A[:, features], i)
            # Where the input decides: the gate without it would be true, or would not be.
            asked = ~less if kind == "or" else less
            x, y = (one - one[asked].mean() if asked.any() else one * 1.0 for one in (gate, out))
            claims.append(by_document(asked * x * y, part))
        # Both tellings in one table: their joint Jaccard index.
        told, active = np.concatenate([gate, alone]), np.concatenate([out, out])
        jaccard = share(told & active, told | active)
        right, wrong = (excess(gate, alone, side) for side in (out, ~out))
        claims.append(by_document(right - jaccard * wrong, part))
        expected = max(float(sign_flip_bound(np.array(one))) for one in claims)
        assert found[row] == pytest.approx(expected, rel=1e-6, abs=1e-12)


def excess(gate: np.ndarray, alone: np.ndarray, side: np.ndarray) -> np.ndarray:
    """By how much the gate is true more often than the feature active, on one side's units."""
    return (gate & side).astype(float) - (alone & side)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-4, 4).map(lambda value: round(value, 2)), min_size=1, max_size=10))
def test_the_bound_is_no_less_than_the_share_of_signs(parts: list[float]) -> None:
    signs = np.array(list(itertools.product([-1, 1], repeat=len(parts))))
    exact = float((signs @ parts >= sum(parts) - 1e-9).mean())
    assert sign_flip_bound(np.array(parts)) >= exact - 1e-12


def test_the_bound_is_tight() -> None:
    assert sign_flip_bound(np.array([1.0, 1.0])) == pytest.approx(0.25)
    assert sign_flip_bound(np.array([1.0, -2.0])) == 1
    assert sign_flip_bound(np.zeros(3)) == 1


def test_what_differs_by_document_is_no_gain() -> None:
    """Two features that tell as well, each silent in documents of its own: units deceive."""
    rng = np.random.default_rng(5)
    n_documents, runs, length = 200, 300, 100
    document = np.repeat(np.arange(n_documents), length)
    out = rng.random((n_documents * length, runs)) < 0.1
    heard = rng.random((2, n_documents, runs)) < 0.8
    one, other = (out & np.repeat(side, length, axis=0) for side in heard)
    # Half of what a feature tells is in each input, so that only the gain may be luck.
    half = rng.random(one.shape) < 0.5
    A = np.hstack([one & half, one & ~half, other])
    postings, part = Postings(activity(A), activity(out)), parts_of(document)
    index = np.arange(runs)
    by_unit = (one.sum(0) - other.sum(0)) / np.sqrt((one ^ other).sum(0))
    assert (by_unit > 1.645).mean() > 0.2
    inputs = np.stack([index, runs + index], axis=1)
    p = chances(postings, part, "or", inputs, index, 2 * runs + index)
    assert 0 < (p <= 0.05).mean() <= 0.05
    less = chances(postings, part, "or", inputs, index, runs + index)
    assert (less < 1e-6).all()


def test_many_documents_are_taken_together() -> None:
    document = np.repeat(np.arange(5000) * 2 + 1, 3)
    part = parts_of(document)
    assert np.unique(part).tolist() == list(range(MOST_PARTS))
    assert np.bincount(part).tolist() == [15] * MOST_PARTS
    assert parts_of(np.zeros(0, np.int64)).tolist() == []


# -- what is found ------------------------------------------------------------------------------


def brute_force(
    A: np.ndarray, B: np.ndarray, kind: str, k: int, settings: GateSettings
) -> set[tuple[tuple[int, ...], int]]:
    """Every gate that meets the limits, one by one."""
    found = set()
    first = itertools.permutations if kind == "and_not" else itertools.combinations
    for features in first(range(A.shape[1]), k):
        if kind == "and_not" and list(features[1:]) != sorted(features[1:]):
            continue
        gate = is_true(kind, A[:, features])
        less = [without(kind, A[:, features], i) for i in range(k)]
        for j, out in enumerate(B.T):
            both = gate & out
            if both.sum() < settings.min_joint:
                continue
            sufficiency, necessity = share(both, gate), share(both, out)
            if min(sufficiency, necessity) < settings.at_least:
                continue
            if kind == "or":
                lifts = [necessity / max(share(one & out, out), 1e-9) for one in less]
            else:
                lifts = [sufficiency / max(share(one & out, one), 1e-9) for one in less]
            singles = [
                share(a & out, a | out) for a in A.T if (a & out).sum() >= settings.min_joint
            ]
            gain = share(both, gate | out) - max(singles)
            if min(lifts) >= settings.min_lift and gain > settings.min_gain:
                found.add((features, j))
    return found


def listed(found: list[Found]) -> set[tuple[tuple[int, ...], int]]:
    return {
        (tuple(inputs), output)
        for gates in found
        for inputs, output in zip(gates.inputs.tolist(), gates.output.tolist(), strict=True)
    }


@settings(max_examples=12, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    k=st.sampled_from([2, 3]),
    at_least=st.sampled_from([0.4, 0.6, 0.8]),
    min_gain=st.sampled_from([0.0, 0.02, 0.2]),
    seed=st.integers(0, 100),
)
def test_nothing_is_missed(kind: str, k: int, at_least: float, min_gain: float, seed: int) -> None:
    """Candidates are enough: against all combinations, tried one by one."""
    rng = np.random.default_rng(seed)
    A = rng.random((600, 7)) < rng.uniform(0.1, 0.5, 7)
    outputs = [
        is_true(kind, A[:, rng.permutation(7)[:k]]) & (rng.random(600) < 0.95) for _ in range(3)
    ]
    B = np.column_stack([*outputs, rng.random(600) < 0.2])
    asked = GateSettings(
        (kind,), k, at_least=at_least, min_lift=1.2, min_gain=min_gain, min_joint=10
    )
    found = find_gates(activity(A), activity(B), np.zeros(600, np.int64), asked)
    expected = {
        (features, j)
        for features, j in brute_force(A, B, kind, k, asked)
        if could_be_part(kind, A[:, features], B[:, j], asked)
    }
    assert {one for one in listed(found) if len(one[0]) == k} == expected


def could_be_part(kind: str, a: np.ndarray, b: np.ndarray, settings: GateSettings) -> bool:
    """What the inputs of a gate are alone; of two inputs, an `or` alone could do with less."""
    needed = a if kind != "and_not" else a[:, :1]
    both = needed & b[:, None]
    of_b, of_a = both.sum(0) / b.sum(), both.sum(0) / needed.sum(0)
    high, low = (of_a, of_b) if kind == "or" else (of_b, of_a)
    enough = ((a[:, :1] & a[:, 1:]).sum(0) >= settings.min_joint).all() or kind != "and_not"
    return bool((high >= settings.at_least).all() & (low * settings.min_lift <= 1).all() & enough)


@pytest.fixture(scope="module")
def store(layers: PlantedLayers) -> Iterator[Atlas]:
    with atlas.open(layers.path) as opened:
        yield opened


def planted(layers: PlantedLayers, upstream: int, *, chance: bool) -> set[tuple[str, object, int]]:
    """(kind, input ids, output id); of and_not the inputs in order."""
    ids = layers.ids(f"deep/{upstream}-resid_post")
    return {
        (
            "and" if gate.kind in ("and3", "chance") else gate.kind,
            gate.inputs if gate.kind == "and_not" else frozenset(gate.inputs),
            gate.output,
        )
        for gate in layers.truth.gates
        if gate.inputs[0] in ids and (gate.kind == "chance") == chance
    }


def told(store: Atlas, upstream: int, where: str) -> set[tuple[str, object, int]]:
    rows = store.rows(
        f"select kind, input_ids, output_id from gates('deep/{upstream}-resid_post',"
        f" 'deep/{upstream + 1}-resid_post', n_inputs := 3) where {where}"
    )
    return {
        (kind, tuple(inputs) if kind == "and_not" else frozenset(inputs), output)
        for kind, inputs, output in rows
    }


@pytest.mark.parametrize("upstream", [0, 1, 2])
def test_planted_gates_are_confirmed_and_chance_is_not(
    store: Atlas, layers: PlantedLayers, upstream: int
) -> None:
    expected = planted(layers, upstream, chance=False)
    confirmed = told(store, upstream, "confirmed")
    assert len(confirmed & expected) >= 0.9 * len(expected)
    assert len(confirmed & expected) >= 0.9 * len(confirmed)
    # In the even documents these are gates like others: it is the odd ones that tell.
    by_chance = planted(layers, upstream, chance=True)
    assert by_chance <= told(store, upstream, "not confirmed and jaccard > 0.9")


def test_activity_by_chance_makes_no_gate() -> None:
    """Two layers that have nothing to do with each other, and limits as low as they get."""
    rng = np.random.default_rng(0)
    A, B = (rng.random((4000, 20)) < rng.uniform(0.02, 0.2, 20) for _ in range(2))
    document = np.arange(4000) // DOCUMENT
    asked = GateSettings(n_inputs=3, at_least=0.1, min_lift=1.0, min_gain=0.0, min_joint=5)
    found = find_gates(activity(A), activity(B), document, asked)
    assert sum(len(gates.output) for gates in found) > 100
    assert sum(int(gates.confirmed.sum()) for gates in found) == 0


# -- in SQL -------------------------------------------------------------------------------------


def test_gates_and_gate_tell_the_same(store: Atlas) -> None:
    """Python's counts and SQL's, of each half of the documents."""
    rows = store.rows(
        "select kind, inputs, output, sufficiency, necessity, lift,"
        f" sufficiency_held_out, necessity_held_out, lift_held_out {GATES}"
    )
    assert {row[0] for row in rows} == set(KINDS)
    for kind, inputs, output, *numbers in rows:
        for documents, expected in (("even", numbers[:3]), ("odd", numbers[3:])):
            found = store.row(
                f"select {kind}_sufficiency, {kind}_necessity, {kind}_lift"
                " from gate(?, ?, ?, documents := ?)",
                [*inputs, output, documents],
            )
            assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("above", [0.0, 0.5])
def test_the_eight_cells_are_counted(store: Atlas, layers: PlantedLayers, above: float) -> None:
    gate = next(gate for gate in layers.truth.gates if gate.kind == "and_not")
    sae, column = divmod(np.array([*gate.inputs, gate.output]), WIDTH)
    q = np.column_stack([layers.q[s][:, c] for s, c in zip(sae, column, strict=True)])
    active = q > above * q.max(0)
    cells = ["".join(digits) for digits in itertools.product("01", repeat=3)]
    found = store.row(
        f"select n, {', '.join('n_' + cell for cell in cells)} from gate(?, ?, ?, above := ?)",
        [*gate.inputs, gate.output, above],
    )
    assert found is not None
    keys = active @ [4, 2, 1]
    assert list(found) == [len(q), *np.bincount(keys, minlength=8)]


def test_the_row_tells_what_it_is(store: Atlas, layers: PlantedLayers) -> None:
    one = store.sql(f"{GATES} where kind = 'and_not' order by output_id limit 1").to_arrow_table()
    (row,) = one.to_pylist()
    assert row["inputs"] == [layers.name(i) for i in row["input_ids"]]
    assert row["output"] == layers.name(row["output_id"])
    assert row["single"] == layers.name(row["single_id"])
    assert row["lift"] == min(row["lifts"])
    assert len(row["lifts"]) == 2
    assert row["over"] == "tokens"
    assert row["n_both"] <= min(row["n_gate"], row["n_output"])
    assert row["sufficiency_held_out_low"] < row["sufficiency_held_out"]
    assert row["necessity_held_out_low"] < row["necessity_held_out"]
    for name in ("jaccard", "jaccard_held_out"):
        assert row[name] > row[f"single_{name}"]


def test_confirmed_is_what_holds_again(store: Atlas) -> None:
    rows = store.rows(
        "select p_held_out, q_held_out, confirmed, least(sufficiency_held_out, necessity_held_out)"
        " >= 0.6 and lift_held_out >= 1.1 and n_both_held_out >= 20 and"
        " jaccard_held_out - single_jaccard_held_out > 0.05, jaccard - single_jaccard"
        f" {GATES[:-1]}, at_least := 0.6, min_lift := 1.1, min_gain := 0.05)"
    )
    p, q, confirmed, holds, gain = map(np.array, zip(*rows, strict=True))
    assert q == pytest.approx(false_discovery_control(p))
    assert (confirmed == (holds & (q <= 0.05))).all()
    assert 0 < confirmed.sum() < len(confirmed)
    assert gain.min() > 0.05


def test_gates_across_models_count_words(toy_store: Atlas) -> None:
    for other, over in (("toy-a/1-resid_post", "tokens"), ("toy-c/2-resid_post", "words")):
        found = toy_store.rows(
            "select over, kind, input_ids, output_id, n_both, n_gate from gates("
            f"'toy-a/0-resid_post', '{other}', at_least := 0.3, min_lift := 1.01,"
            " min_gain := 0, min_joint := 2)"
        )
        assert {row[0] for row in found} == {over}
        for _, kind, inputs, output, n_both, n_gate in found[:3]:
            cells = toy_store.row(
                "select over, n_111, n_011, n_101, n_110, n_010, n_100"
                " from gate(?, ?, ?, documents := 'even')",
                [*inputs, output],
            )
            assert cells is not None
            n_111, n_011, n_101, n_110, n_010, n_100 = cells[1:]
            joint = {"and": n_111, "or": n_111 + n_011 + n_101, "and_not": n_101}[kind]
            rest = {"and": n_110, "or": n_110 + n_010 + n_100, "and_not": n_100}[kind]
            assert cells[0] == over
            assert (joint, joint + rest) == (n_both, n_gate)


@pytest.fixture(scope="module")
def toy_store(toy: object) -> Iterator[Atlas]:
    with atlas.open(str(toy)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("kinds := ['xor']", "'xor' is no kind of gate; kinds are and, or, and_not."),
        ("kinds := []", "No kind of gate; kinds are and, or, and_not."),
        ("n_inputs := 4", "Gates have 2 or 3 inputs, not 4."),
        ("at_least := 0", r"at_least is a share in \(0, 1\], not 0."),
        ("min_lift := 0.5", "min_lift is at least 1, not 0.5."),
        ("min_gain := -0.1", r"min_gain is a difference in \[0, 1\), not -0.1."),
        ("min_joint := 0", "min_joint is at least 1, not 0."),
        ("above := 1", r"above is a share in \[0, 1\), not 1."),
    ],
)
def test_wrong_arguments_are_told(store: Atlas, arguments: str, sentence: str) -> None:
    with pytest.raises(atlas.errors.QueryError, match=f"^{sentence}$"):
        store.rows(GATES.replace(")", f", {arguments})"))


def test_settings_are_checked_in_python_too() -> None:
    with pytest.raises(BadInput, match="Gates have 2 or 3 inputs"):
        GateSettings(n_inputs=1)
