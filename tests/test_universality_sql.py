"""Pairing and comparing by SQL: what the macros ask of their kernels, and what they make of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import atlas
from atlas import Atlas
from atlas.errors import QueryError
from tests.synthetic_pairs import MIN_JOINT, benjamini_hochberg


@pytest.fixture(scope="module")
def store(toy: Path) -> Iterator[Atlas]:
    with atlas.open(toy) as opened:
        yield opened


COMPARED = """struct(value double, calibrated double, null_mean double, null_sd double, p double,
    subset_mean double, subset_sd double, subset_p double, n bigint, dims_a integer,
    dims_b integer)"""


class FakeKernel:
    """Answers _compare with numbers that tell the arguments; counts its calls."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def __call__(self, *columns: Any) -> pa.Array:
        rows = list(zip(*(column.to_pylist() for column in columns), strict=True))
        self.asked += rows
        answers = []
        for a, b, metric, subspace, *_ in rows:
            n = len(subspace) - 3  # 'all' and 'time' have too few pairs to be listed in semantics
            p = (int(a) * 7 + int(b) * 3 + len(metric)) % 10 / 10 + n / 1000
            answers.append({"value": 0.5, "p": p, "subset_p": None, "n": n, "dims_a": int(a)})
        kind = pa.struct(
            [(name, pa.float64()) for name in (
                "value", "calibrated", "null_mean", "null_sd", "p", "subset_mean", "subset_sd",
                "subset_p",
            )] + [("n", pa.int64()), ("dims_a", pa.int32()), ("dims_b", pa.int32())]
        )  # fmt: skip
        return pa.array(answers, kind)


@pytest.fixture
def faked(toy: Path) -> Iterator[tuple[Atlas, FakeKernel]]:
    kernel = FakeKernel()
    with atlas.open(toy) as store:
        store.register_kernel(
            "_compare",
            lambda a, b, c, d, e, f, g, h, i, j, k: kernel(a, b, c, d, e, f, g, h, i, j, k),
            ["VARCHAR"] * 6 + ["INTEGER", "BOOLEAN", "INTEGER", "INTEGER", "BIGINT"],
            COMPARED,
            side_effects=True,
        )
        yield store, kernel


def test_every_metric_asks_the_kernel_once(faked: tuple[Atlas, FakeKernel]) -> None:
    store, kernel = faked
    for call, metric in {
        "svcca({})": "svcca",
        "svcca_k1({})": "svcca_k1",
        "cka({})": "cka",
        "procrustes({})": "procrustes",
        "mean_correlation({})": "mean_correlation",
        "compare({}, metric := 'svcca_uncapped')": "svcca_uncapped",
        "rsa({})": "rsa(pearson, spearman)",
        "rsa({}, inner := 'cosine', outer := 'pearson')": "rsa(cosine, pearson)",
    }.items():
        kernel.asked.clear()
        store.rows("from " + call.format("'toy-a/0-resid_post', 3"))
        assert kernel.asked == [
            ("0", "3", metric, "all", "mutual", "words", 20, False, 1000, 200, 0)
        ]
    kernel.asked.clear()
    store.rows(
        "from svcca(1, 2, subspace := 'time', method := 'best', over := 'tokens', min_joint := 5,"
        " concepts_only := true, permutations := 9, subsets := 8, seed := 7)"
    )
    assert kernel.asked == [("1", "2", "svcca", "time", "best", "tokens", 5, True, 9, 8, 7)]


def test_comparisons_join_and_take_what_queries_say(faked: tuple[Atlas, FakeKernel]) -> None:
    store, kernel = faked
    rows = store.rows(
        "select a.sae, b.sae, s.dims_a from sae_cards a, sae_cards b, cka(a.sae, b.sae_id) s"
        " where a.model = 'toy-a' and b.model = 'toy-c' order by all"
    )
    assert rows == [
        ("toy-a/0-resid_post", "toy-c/2-resid_post", 0),
        ("toy-a/1-resid_post", "toy-c/2-resid_post", 1),
    ]
    assert len(kernel.asked) == 2
    assert store.row("select dims_a from cka((select max(sae_id) from saes), 0)") == (3,)


def test_a_matrix_has_a_cell_for_every_two_saes(faked: tuple[Atlas, FakeKernel]) -> None:
    store, kernel = faked
    rows = store.rows("select sae_id_a, sae_id_b, p, q from similarity_matrix('toy-a', null)")
    assert [row[:2] for row in rows] == [(0, 1), (0, 2), (0, 3), (1, 0), (1, 2), (1, 3)]
    assert len(kernel.asked) == 6
    np.testing.assert_allclose(
        [row[3] for row in rows], benjamini_hochberg([row[2] for row in rows])
    )
    one = "'toy-a/0-resid_post'"
    assert store.rows(f"from similarity_matrix({one}, {one})") == []


def test_subspaces_are_the_categories_with_enough_pairs(faked: tuple[Atlas, FakeKernel]) -> None:
    store, kernel = faked
    categories = {c for (c,) in store.rows("select distinct category from categories")}
    rows = store.rows(
        "select category, p, q, n, subset_q from semantic_subspaces('toy-a/0-resid_post', 3)"
    )
    assert {row[0] for row in rows} == {c for c in categories if len(c) >= 6}
    assert {asked[3] for asked in kernel.asked} == categories
    assert len(kernel.asked) == len(categories)
    np.testing.assert_allclose(
        [row[2] for row in rows], benjamini_hochberg([row[1] for row in rows])
    )
    assert all(row[4] is None for row in rows)


@pytest.mark.parametrize(
    "call",
    [
        "pairs({}, 0)", "pairs(0, {})", "compare({}, 0)", "svcca(0, {})", "rsa({}, 0)",
        "similarity_matrix({}, 'toy-a')", "semantic_subspaces({}, 0)",
    ],
)  # fmt: skip
def test_an_unknown_sae_is_told_in_one_sentence(store: Atlas, call: str) -> None:
    with pytest.raises(
        QueryError, match=r"There is no 'toy-z/1-resid_post'.*its SAEs are"
    ) as error:
        store.rows("from " + call.format("'toy-z/1-resid_post'"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("call", ["pairs(0, 1)", "svcca(0, 1)", "similarity_matrix('toy-a', null)"])
def test_without_python_the_macros_say_what_to_do(toy: Path, call: str) -> None:
    with (
        Atlas.open(toy) as bare,
        pytest.raises(QueryError, match=r"atlas\.open\(\) or `atlas sql`"),
    ):
        bare.rows(f"from {call}")


def test_false_discovery_rates_against_plain_python(store: Atlas) -> None:
    rng = np.random.default_rng(0)
    for n in (0, 1, 2, 7, 60):
        p = [float(one) for one in np.round(rng.random(n) ** 3, 2)]  # rounded: with ties
        p = [None if rng.random() < 0.2 else one for one in p]
        (found,) = store.row("select _benjamini_hochberg($p::double[])", {"p": p})
        np.testing.assert_allclose(
            np.array(found, "f8"), np.array(benjamini_hochberg(p), "f8"), rtol=1e-12
        )


def test_pairs_are_those_of_plain_numpy(store: Atlas) -> None:
    """Stored pairs are read, so those of SAEs the other way round are computed."""
    found = store.rows(
        "select id_a, id_b, r, r_chosen, r_held_out, n_both from"
        f" pairs('toy-c/2-resid_post', 'toy-a/0-resid_post', min_joint := {MIN_JOINT}) order by all"
    )
    kept = store.rows(
        "select feature_b, feature_a, r, r_chosen, r_held_out, n_both from feature_pairs"
        " where pairing_id = 2 order by all"
    )
    assert len(found) > 10
    np.testing.assert_allclose(np.array(found), np.array(kept), rtol=1e-9)


def test_values_are_those_of_plain_numpy(store: Atlas) -> None:
    """Values do not depend on which side is A."""
    kept = dict(store.rows("select metric, value from comparisons where pairing_id = 2"))
    for metric, value in kept.items():
        found = store.row(
            f"select value, p < 0.05 from {metric}('toy-c/2-resid_post', 'toy-a/0-resid_post',"
            f" min_joint := {MIN_JOINT}, permutations := 99, subsets := 0)"
        )
        assert found == (pytest.approx(value, abs=1e-6), True)
