"""The measures in SQL against NumPy, on vectors that Hypothesis chooses, and on the atlas's own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import atlas
from atlas import Atlas
from atlas.activations import load

CASES = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module")
def store(toy: Path) -> Iterator[Atlas]:
    with atlas.open(toy) as opened:
        yield opened


@st.composite
def pairs(draw: st.DrawFn, largest: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Two vectors of activations, mostly zeros, of one length."""
    n = draw(st.integers(1, 40))
    value = st.one_of(st.just(0), st.integers(0, largest))
    return tuple(np.array(draw(st.lists(value, min_size=n, max_size=n))) for _ in "ab")


def sums(a: np.ndarray, b: np.ndarray) -> dict[str, int]:
    return {
        "n": len(a),
        "sum_a": sum(map(int, a)),
        "sum_b": sum(map(int, b)),
        "sum_a2": sum(int(x) ** 2 for x in a),
        "sum_b2": sum(int(x) ** 2 for x in b),
        "sum_ab": sum(int(x) * int(y) for x, y in zip(a, b, strict=True)),
        "n_a": int((a > 0).sum()),
        "n_b": int((b > 0).sum()),
        "n_both": int(((a > 0) & (b > 0)).sum()),
    }


def measured(store: Atlas, macro: str, *names: str, **given: int) -> float | None:
    arguments = ", ".join(f"{name} := {given[name]}" for name in names)
    return store.row(f"select {macro}({arguments})")[0]


def close(found: float | None, expected: float | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)


@CASES
@given(pairs())
def test_pearson_is_numpys(store: Atlas, pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    varies = len(set(a.tolist())) > 1 and len(set(b.tolist())) > 1
    expected = float(np.corrcoef(a, b)[0, 1]) if varies else None
    names = ("n", "sum_a", "sum_b", "sum_a2", "sum_b2", "sum_ab")
    assert close(measured(store, "pearson", *names, **sums(a, b)), expected)


@CASES
@given(pairs())
def test_activation_cosine_is_numpys(store: Atlas, pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair[0].astype(float), pair[1].astype(float)
    length = np.linalg.norm(a) * np.linalg.norm(b)
    expected = float(a @ b / length) if length else None
    found = measured(store, "activation_cosine", "sum_a2", "sum_b2", "sum_ab", **sums(*pair))
    assert close(found, expected)


@CASES
@given(pairs(largest=1))
def test_set_measures_are_those_of_sets(store: Atlas, pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = (set(np.flatnonzero(one).tolist()) for one in pair)
    given = sums(*pair)
    union, both = len(a | b), len(a & b)
    assert measured(store, "jaccard", "n_a", "n_b", "n_both", **given) == (
        pytest.approx(both / union) if union else None
    )
    assert measured(store, "sufficiency", "n_a", "n_both", **given) == (
        pytest.approx(both / len(a)) if a else None
    )
    assert measured(store, "necessity", "n_b", "n_both", **given) == (
        pytest.approx(both / len(b)) if b else None
    )


@CASES
@given(pairs(largest=2))
def test_mutual_information_is_that_of_the_joint_table(
    store: Atlas, pair: tuple[np.ndarray, np.ndarray]
) -> None:
    a, b = pair[0] > 0, pair[1] > 0
    expected = 0.0
    for x in (False, True):
        for y in (False, True):
            p = float(np.mean((a == x) & (b == y)))
            if p:
                expected += p * math.log(p / (np.mean(a == x) * np.mean(b == y)))
    found = measured(store, "mutual_information", "n", "n_a", "n_b", "n_both", **sums(*pair))
    assert close(found, expected)
    assert 0 <= found <= math.log(2) + 1e-12


def test_sums_beyond_64_bits_stay_exact(store: Atlas) -> None:
    """Two activations that differ on one of 10^9 units: in float64 the difference is lost."""
    n, q = 10**9, 2**24
    half = n // 2
    sum_a, sum_b = half * q, (half - 1) * q
    sum_a2, sum_b2 = half * q * q, (half - 1) * q * q
    found = store.row(
        f"select pearson({n}::bigint, {sum_a}::hugeint, {sum_b}::hugeint, {sum_a2}::hugeint,"
        f" {sum_b2}::hugeint, {sum_b2}::hugeint)"
    )[0]
    numerator = n * sum_b2 - sum_a * sum_b
    expected = numerator / math.sqrt(n * sum_a2 - sum_a**2) / math.sqrt(n * sum_b2 - sum_b**2)
    assert found == pytest.approx(expected, rel=1e-15)
    assert found < 1


def test_measures_accept_activations_in_real_units(store: Atlas) -> None:
    a, b = np.array([0.5, 0.0, 1.25, 0.0]), np.array([0.25, 0.0, 1.0, 0.5])
    found = store.row(
        "select pearson(4, ?::double, ?::double, ?::double, ?::double, ?::double)",
        [a.sum(), b.sum(), a @ a, b @ b, a @ b],
    )[0]
    assert found == pytest.approx(np.corrcoef(a, b)[0, 1])


def test_relation_measures_word_activations(store: Atlas) -> None:
    a = load(store, "toy-a/0-resid_post", "words")[:, [12]].toarray().ravel()
    b = load(store, "toy-c/2-resid_post", "words")[:, [1]].toarray().ravel()
    relation = store.sql("from relation('toy-a/0-resid_post/12', 'toy-c/2-resid_post/1')")
    found = dict(zip(relation.columns, relation.fetchall()[0], strict=True))
    given = sums(a, b)
    assert (found["n_words"], found["n_a"], found["n_b"], found["n_both"]) == (
        given["n"], given["n_a"], given["n_b"], given["n_both"],
    )  # fmt: skip
    assert found["pearson"] == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert found["pearson"] > 0.8, "the two detect one concept"
    assert found["activation_cosine"] == pytest.approx(
        a.astype(float) @ b / np.linalg.norm(a) / np.linalg.norm(b)
    )
    assert found["jaccard"] == pytest.approx(
        given["n_both"] / (given["n_a"] + given["n_b"] - given["n_both"])
    )
    assert found["decoder_cosine"] is None, "they are of two models"


def test_relation_with_a_dead_feature_is_null_where_undefined(store: Atlas) -> None:
    relation = store.sql("from relation(12, 'toy-a/0-resid_post/23')")
    found = dict(zip(relation.columns, relation.fetchall()[0], strict=True))
    assert found["n_b"] == found["n_both"] == 0
    assert found["pearson"] is None
    assert found["necessity"] is None
    assert found["sufficiency"] == 0


def test_decoder_cosine_is_numpys_and_joins(store: Atlas) -> None:
    rows = store.rows(
        "select v.decoder, decoder_cosine(v.feature_id, 30) from vectors v"
        " where v.feature_id < 48 order by v.feature_id"
    )
    decoder = np.array([row[0] for row in rows], float)
    unit = decoder / np.linalg.norm(decoder, axis=1, keepdims=True)
    np.testing.assert_allclose([row[1] for row in rows], unit @ unit[30], atol=1e-12)


def test_decoder_cosine_is_null_across_models(store: Atlas) -> None:
    assert store.row("select decoder_cosine('toy-a/0-resid_post/1', 'toy-b/0-resid_post/1')") == (
        None,
    )
