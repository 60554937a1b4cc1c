"""Chance of pairs: p is uniform where nothing is related, and few of those found are false."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from atlas.compare.activity import Activity
from atlas.compare.chance import groups_by_rate, null_best, p_values, q_values, shifted
from atlas.compare.pairing import pair
from atlas.compare.products import best_partners
from atlas.compare.settings import PairingSettings
from atlas.progress import Silent
from tests.planted import PlantedSide, activity_of, planted


@pytest.mark.parametrize("run", [1.0, 5.0])
def test_p_is_uniform_where_nothing_is_related(run):
    """Concepts that come in runs fire together more often by chance: the shifts keep the runs."""
    it = planted(0, 400, 20_000, rates=(5e-3, 1e-1), run=run, seed=1)
    found = pair(it.a, it.b, PairingSettings(method="best", min_joint=3))
    assert len(found.a) == found.n_a == 400
    assert kstest(found.p, "uniform").pvalue > 0.02
    assert (found.q < 0.1).sum() == 0


def test_p_of_features_of_every_rate_and_memory_is_uniform():
    """A null that ignored rate or runs would give rare, or lasting, features a small p."""
    sides = [planted(0, 150, 20_000, rates=(2e-3, 2e-1), run=run, seed=2) for run in (1.0, 20.0)]
    a, b = (
        PlantedSide(activity_of([*_columns(first), *_columns(second)], 20_000))
        for first, second in ((sides[0].a, sides[1].a), (sides[0].b, sides[1].b))
    )
    found = pair(a, b, PairingSettings(method="best", min_joint=1))
    rate = a.chosen.n_active[found.a]
    rare = rate < np.median(rate)
    for some in (rare, ~rare, np.ones(len(rare), bool)):
        assert kstest(found.p[some], "uniform").pvalue > 0.01


def _columns(side: PlantedSide) -> list[tuple[np.ndarray, np.ndarray]]:
    bounds = side.activity.indptr[1:-1]
    return list(
        zip(np.split(side.activity.unit, bounds), np.split(side.activity.q, bounds), strict=True)
    )


@pytest.mark.parametrize("method", ["best", "mutual", "hungarian"])
def test_few_of_the_significant_pairs_are_false(method):
    """Over eight mixtures of one shared feature to four others: no more false ones than agreed."""
    false: dict[float, list[float]] = {0.05: [], 0.2: []}
    power = []
    for seed in range(8):
        it = planted(50, 200, 15_000, rates=(2e-3, 5e-2), run=3, seed=seed)
        found = pair(it.a, it.b, PairingSettings(method=method, min_joint=5))
        true = it.partner[found.a] == found.b
        for level, shares in false.items():
            shares.append(1 - true[found.q <= level].mean())
        power.append((true & (found.q <= 0.05)).sum() / true.sum())
    for level, shares in false.items():
        assert np.mean(shares) <= level + 2 * np.std(shares) / np.sqrt(len(shares))
    assert np.mean(false[0.05]) < 0.08
    assert np.mean(power) > 0.95


def test_to_find_no_partner_counts_as_a_test():
    """Where few rare features find one by chance, those few are no discoveries."""
    it = planted(0, 300, 40_000, rates=(3e-4, 3e-3), run=3, seed=3)
    found = pair(it.a, it.b, PairingSettings(method="best", min_joint=5))
    assert 0 < len(found.a) < 0.3 * found.n_a
    assert found.p.max() < 0.4  # of these alone, p is far from uniform
    assert (found.q < 0.2).sum() == 0


def test_p_and_q_are_what_they_are_said_to_be():
    groups = groups_by_rate(np.array([5, 7, 6, 6]), np.array([True, True, True, False]))
    assert groups.by_rate.tolist() == [0, 2, 1]
    nulls = np.array([[0.1, 0.0, 0.5], [0.2, 0.0, 0.4]])
    r = np.array([0.2, 0.45])
    p = p_values(nulls, groups, np.array([0, 1]), r)
    np.testing.assert_allclose(p, [(1 + 3) / (1 + 6), (1 + 1) / (1 + 6)])
    np.testing.assert_allclose(q_values(np.array([0.01, 0.04]), 4), [0.04, 0.08])
    np.testing.assert_allclose(q_values(np.array([0.01, 0.04]), 2), [0.02, 0.04])
    assert np.isnan(q_values(np.array([np.nan]), 3)).all()


def test_the_null_of_rates_alone_is_made_of_features_alike():
    """Of 200 features those of a rate have one null, which that of other rates does not touch."""
    n_active = np.repeat([10, 1000], 100)
    nulls = np.where(n_active == 10, 0.5, 0.01)[None, :].repeat(20, axis=0)
    groups = groups_by_rate(n_active, np.ones(200, bool))
    p = p_values(nulls, groups, np.array([3, 150]), np.array([0.3, 0.3]))
    np.testing.assert_allclose(p, [1, 1 / 1001])


def test_of_many_features_each_shift_asks_one_of_every_group():
    n_active = np.random.default_rng(0).integers(1, 10_000, 2005)
    take = np.arange(2005) % 401 != 0
    groups = groups_by_rate(n_active, take)
    assert (groups.stride, len(groups)) == (5, 400)
    asked = np.stack([groups.one_of_each(number) for number in range(7)])
    assert sorted(asked[:5].ravel()) == np.flatnonzero(take).tolist()
    assert np.array_equal(asked[5:], asked[:2])
    assert (groups.group[asked] == np.arange(400)).all()
    assert np.ptp(n_active[asked[:5]], axis=0).max() < 200


def test_p_is_uniform_of_many_features_too():
    it = planted(0, 1300, 20_000, rates=(3e-3, 3e-2), seed=8)
    found = pair(it.a, it.b, PairingSettings(method="best", min_joint=3, shifts=10))
    assert groups_by_rate(it.a.chosen.n_active, np.ones(1300, bool)).stride == 3
    assert len(found.a) > 1200
    assert kstest(found.p, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("lasting", [1.0, 0.5])
def test_p_is_uniform_of_features_that_last_through_documents(lasting):
    """Documents of 30 to 170 units; a feature is on in some, on all or half of their units."""
    p: list[np.ndarray] = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        length = rng.integers(30, 170, 150)
        document = np.repeat(np.arange(150), length)
        a, b = (_lasting(rng, document, lasting) for _ in range(2))
        everyone = np.ones(150, bool)
        groups = groups_by_rate(a.n_active, everyone)
        nulls = null_best(a, b, document, 1, groups, everyone, 20, seed, Silent())
        best = best_partners(a, b, 1)
        paired = np.flatnonzero(best.partner_a >= 0)
        p.append(p_values(nulls, groups, paired, best.r_a[paired]))
    together = np.concatenate(p)
    for level in (0.01, 0.05, 0.1, 0.2):
        limit = level + 3 * np.sqrt(level / len(together))
        assert (together <= level).mean() < limit
    assert (together <= 0.2).mean() > 0.08


def _lasting(rng: np.random.Generator, document: np.ndarray, lasting: float) -> Activity:
    columns = []
    for _ in range(150):
        on = rng.random(document[-1] + 1) < np.exp(rng.uniform(np.log(0.03), np.log(0.3)))
        (unit,) = (on[document] & (rng.random(len(document)) < lasting)).nonzero()
        columns.append((unit, np.round(1024 * rng.lognormal(size=len(unit))) + 1))
    return activity_of(columns, len(document))


def test_a_shift_lets_each_document_meet_another():
    length = np.array([5, 1, 9, 3, 7])
    document = np.repeat([0, 2, 4, 6, 8], length)
    for seed in range(20):
        meets = shifted(document, np.random.default_rng(seed))
        offsets = set()
        for index, one in enumerate(np.unique(document)):
            units = meets[document == one]
            (other,) = set(document[units])  # one, whole, in its order, round its end
            offsets.add((other // 2 - index) % 5)
            assert len(set(units)) == min(len(units), length[other // 2])
            assert set(np.diff(units)) <= {1, 1 - length[other // 2]}
        assert len(offsets) == 1
        assert 0 not in offsets
    alone = shifted(np.zeros(100, int), np.random.default_rng(0))
    assert sorted(alone) == list(range(100))
    assert 5 <= alone[0] <= 95


def test_shifts_keep_everything_but_the_relation():
    it = planted(100, 0, 20_000, rates=(1e-2, 1e-1), seed=4)
    everyone = np.ones(100, bool)
    a, b = it.a.activity, it.b.activity
    groups = groups_by_rate(a.n_active, everyone)
    ask = (a, b, it.a.document, 5, groups, everyone, 10)
    nulls = null_best(*ask, 0, Silent())
    assert nulls.shape == (10, 100)
    assert nulls.max() < 0.3 < best_partners(a, b, 5).r_a.min()
    assert np.array_equal(nulls, null_best(*ask, 0, Silent()))
    assert not np.array_equal(nulls, null_best(*ask, 1, Silent()))
