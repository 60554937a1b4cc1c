"""Nulls of paired features: p is uniform by chance, values are calibrated, families corrected."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from atlas.compare.measures import from_matrix, metric
from atlas.compare.nulls import (
    Null,
    benjamini_hochberg,
    calibrated,
    permutation_nulls,
    subset_nulls,
)
from atlas.compare.prepared import Prepared
from atlas.errors import BadInput

Array = NDArray[np.float64]

NAMES = ["svcca", "svcca_k1", "cka", "procrustes", "rsa", "rsa(cosine, pearson)",
         "rsa(cosine, kendall)"]  # fmt: skip


def unrelated(n: int, d_a: int, d_b: int, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d_a)), rng.standard_normal((n, d_b))


def everything(X: Array, Y: Array) -> list[Prepared]:
    """Each measure of them, and the mean correlation of as many pairs."""
    R = np.random.default_rng(9).uniform(-1, 1, (len(X), len(X)))
    return [metric(name).prepare(X, Y) for name in NAMES] + [from_matrix(R)]


# -- permutations --------------------------------------------------------------------------------


def test_the_mean_of_svcca_k1s_null_is_that_of_a_correlation_of_noise():
    """r of n values shuffled has variance 1/(n − 1), and is nearly normal: E|r| = √(2/π(n − 1))."""
    for n in (100, 400):
        (null,) = permutation_nulls([metric("svcca_k1").prepare(*unrelated(n, 6, 8))], 10_000, 0)
        assert null.mean == pytest.approx(math.sqrt(2 / (math.pi * (n - 1))), rel=0.03)
        assert null.sd == pytest.approx(math.sqrt((1 - 2 / math.pi) / (n - 1)), rel=0.04)


def test_p_mean_and_sd_are_those_of_all_permutations():
    X, Y = unrelated(6, 2, 2)
    Y += X
    for one in everything(X, Y):
        values = one.permuted_all(np.array(list(itertools.permutations(range(6)))))
        (null,) = permutation_nulls([one], 20_000, 1)
        assert null.p == pytest.approx(np.mean(values >= one.value - 1e-9), abs=0.015)
        assert null.mean == pytest.approx(values.mean(), abs=0.02)
        assert null.sd == pytest.approx(values.std(), rel=0.05)
        assert null.m == 20_000


def test_p_counts_the_value_itself_and_is_never_0():
    X, _ = unrelated(40, 5, 5)
    for name in NAMES:
        (null,) = permutation_nulls([metric(name).prepare(X, X)], 99, 0)
        assert null.p == 1 / 100


def test_all_permutations_of_a_simplex_are_ties():
    """Whatever goes with what, three directions with equal angles look the same."""
    X = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 3)))[0].T
    Y = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    for name in ("svcca_uncapped", "cka", "procrustes"):
        (null,) = permutation_nulls([metric(name).prepare(X, Y)], 50, 0)
        assert null.p == 1
        assert null.mean == pytest.approx(1)


@pytest.mark.parametrize("name", [*NAMES, "mean_correlation"])
def test_p_is_uniform_by_chance(name):
    """Kolmogorov–Smirnov over spaces that have nothing to do with each other."""
    m, spread = 99, np.random.default_rng(3)
    p = []
    for seed in range(200):
        X, Y = unrelated(12, 3, 4, seed)
        one = metric(name)
        prepared = one.prepare(X @ Y.T[:3]) if one.of_correlations else one.prepare(X, Y)
        (null,) = permutation_nulls([prepared], m, seed, threads=1)
        p.append(null.p - spread.uniform(0, 1 / (m + 1)))  # of steps a line
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_measures_share_their_permutations():
    together = permutation_nulls(everything(*unrelated(20, 4, 6)), 300, 5)
    alone = [permutation_nulls([one], 300, 5)[0] for one in everything(*unrelated(20, 4, 6))]
    assert together == alone


@pytest.mark.parametrize("n", [20, 2100])
def test_nulls_do_not_depend_on_threads_but_on_the_seed(n):
    X, Y = unrelated(n, 20, 15)
    prepared = [metric(name).prepare(X, Y) for name in ("svcca", "cka", "rsa")]
    m = 40 if n > 1000 else 5000  # several blocks of them
    first = permutation_nulls(prepared, m, 0, threads=1)
    assert permutation_nulls(prepared, m, 0, threads=3) == first
    assert permutation_nulls(prepared, m, 1) != first


def test_what_is_not_defined_has_no_null():
    X, Y = unrelated(10, 3, 3)
    (null,) = permutation_nulls([metric("svcca").prepare(X, np.tile(Y[0], (10, 1)))], 50, 0)
    assert null.m == 0
    assert all(math.isnan(number) for number in (null.mean, null.sd, null.p))
    assert permutation_nulls([], 10, 0) == []


def test_nulls_of_nothing_or_of_different_pairs_are_told():
    few, many = (metric("cka").prepare(*unrelated(n, 3, 3)) for n in (5, 6))
    with pytest.raises(BadInput, match=r"\[5, 6\]"):
        permutation_nulls([few, many], 10, 0)
    with pytest.raises(BadInput, match="permutations, not 0"):
        permutation_nulls([few], 0, 0)
    with pytest.raises(BadInput, match="draws, not 0"):
        subset_nulls([0.5], lambda rng: [0.0], 0, 0)


class Told:
    """A listener that adds up what it is told."""

    def __init__(self) -> None:
        self.tasks: dict[str, tuple[float | None, str]] = {}
        self.done = 0.0

    @contextmanager
    def task(self, name: str, total: float | None, unit: str) -> Iterator[Told]:
        self.tasks[name] = total, unit
        yield self

    def advance(self, amount: float = 1) -> None:
        self.done += amount

    def note(self, text: str) -> None:
        pass

    def notice(self, sentence: str) -> None:
        pass


def test_progress_is_told_up_to_the_last_permutation_and_draw():
    told = Told()
    permutation_nulls([metric("cka").prepare(*unrelated(50, 4, 6))], 3001, 0, told)
    assert told.tasks == {"shuffling pairs": (3001, "permutations")}
    assert told.done == 3001
    told = Told()
    subset_nulls([0.1], lambda rng: [rng.random()], 7, 0, told)
    assert told.tasks == {"drawing random features": (7, "draws")}
    assert told.done == 7


# -- random subsets ------------------------------------------------------------------------------


def test_subset_nulls_compare_each_value_with_those_of_its_own_draws():
    drawn = []

    def draw(rng: np.random.Generator) -> list[float]:
        drawn.append(rng.random())
        return [drawn[-1], math.nan if len(drawn) % 2 else 0.25]

    low, high = subset_nulls([0.5, 0.25 - 1e-12], draw, 50, 3)
    assert low == Null(
        pytest.approx(np.mean(drawn)),
        pytest.approx(np.std(drawn, ddof=1)),
        (1 + sum(value >= 0.5 for value in drawn)) / 51,
        50,
    )
    assert high == Null(0.25, 0.0, 1.0, 25)  # 25 draws without a value do not count
    again: list[float] = []
    subset_nulls([0.5], lambda rng: [again.append(rng.random()) or 0.0], 10, 3)
    assert again == drawn[:10]


# -- calibration ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["svcca", "rsa", "cka", "procrustes"])
@pytest.mark.parametrize("ratio", [0.5, 1, 2, 5, 20])
def test_unrelated_spaces_are_calibrated_to_0_and_rotated_copies_to_1(name, ratio):
    d = 50
    n = int(ratio * d)
    X, Y = unrelated(n, d, d)
    rotation = np.linalg.qr(np.random.default_rng(7).standard_normal((d, d)))[0]
    chance, copy = (
        (value.value, null)
        for other in (Y, X @ rotation)
        for value in [metric(name).prepare(X, other)]
        for null in permutation_nulls([value], 100, 0)
    )
    assert abs(calibrated(chance[0], chance[1].mean)) < 0.1
    # Inside Pearson a rotation matters a little.
    assert calibrated(copy[0], copy[1].mean) == pytest.approx(1, abs=0.1 if name == "rsa" else 1e-6)


def test_a_null_that_leaves_no_room_calibrates_nothing():
    assert calibrated(0.75, 0.5) == 0.5
    assert calibrated(0.25, 0.5) == -0.5
    assert math.isnan(calibrated(1.0, 1.0 - 1e-9))
    assert math.isnan(calibrated(math.nan, 0.2))
    assert math.isnan(calibrated(0.2, math.nan))
    # Subspaces that together have twice the dimensions of the samples meet in all of one.
    X, Y = unrelated(4, 30, 30)
    full = metric("svcca_uncapped").prepare(X, Y)
    (null,) = permutation_nulls([full], 20, 0)
    assert full.value == pytest.approx(1)
    assert null.p == 1
    assert math.isnan(calibrated(full.value, null.mean))


# -- families of tests ---------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1) | st.just(math.nan), max_size=30))
def test_q_is_that_of_benjamini_and_hochberg(p):
    q = benjamini_hochberg(p)
    tests = [one for one in p if not math.isnan(one)]
    for one, found in zip(p, q, strict=True):
        if math.isnan(one):
            assert math.isnan(found)
            continue
        above = [other * len(tests) / sum(p <= other for p in tests) for other in tests
                 if other >= one]  # fmt: skip
        assert found == pytest.approx(min(above), abs=1e-15)
    if tests:
        assert q[~np.isnan(q)] == pytest.approx(stats.false_discovery_control(tests))


def test_discoveries_are_false_as_seldom_as_asked_for():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(400):
        true = np.arange(60) < 20
        p = np.where(true, rng.beta(0.1, 8, 60), rng.random(60))
        found = benjamini_hochberg(p) <= 0.1
        shares.append((found & ~true).sum() / max(found.sum(), 1))
        assert (found & true).sum() > 5
    # Of 40 tests without effect among 60, at a rate of .1: .1 · 40/60, give or take.
    assert np.mean(shares) == pytest.approx(0.1 * 40 / 60, abs=0.015)
