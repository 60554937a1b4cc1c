"""Chance of pairs: p is uniform where nothing is related, and few of those found are false."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from atlas.compare.chance import null_best, p_values, q_values
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
    nulls = np.array([[0.1, 0.5, 0.0, 0.9], [0.2, 0.4, 0.0, 0.8]])
    take = np.array([True, True, True, False])
    r = np.array([0.2, 0.45])
    p = p_values(nulls, np.array([5, 7, 6, 6]), take, np.array([0, 1]), r)
    np.testing.assert_allclose(p, [(1 + 3) / (1 + 6), (1 + 1) / (1 + 6)])
    np.testing.assert_allclose(q_values(np.array([0.01, 0.04]), 4), [0.04, 0.08])
    np.testing.assert_allclose(q_values(np.array([0.01, 0.04]), 2), [0.02, 0.04])
    assert np.isnan(q_values(np.array([np.nan]), 3)).all()


def test_the_null_of_rates_alone_is_made_of_features_alike():
    """Of 200 features those of a rate have one null, which that of other rates does not touch."""
    n_active = np.repeat([10, 1000], 100)
    nulls = np.where(n_active == 10, 0.5, 0.01)[None, :].repeat(20, axis=0)
    p = p_values(nulls, n_active, np.ones(200, bool), np.array([3, 150]), np.array([0.3, 0.3]))
    np.testing.assert_allclose(p, [1, 1 / 1001])


def test_shifts_keep_everything_but_the_relation():
    it = planted(100, 0, 20_000, rates=(1e-2, 1e-1), seed=4)
    everyone = np.ones(100, bool)
    a, b = it.a.activity, it.b.activity
    nulls = null_best(a, b, 5, everyone, everyone, 10, 0, Silent())
    assert nulls.shape == (10, 100)
    assert nulls.max() < 0.3 < best_partners(a, b, 5).r_a.min()
    again = null_best(a, b, 5, everyone, everyone, 10, 0, Silent())
    assert np.array_equal(nulls, again)
    other = null_best(a, b, 5, everyone, everyone, 10, 1, Silent())
    assert not np.array_equal(nulls, other)


def test_a_corpus_of_few_units_has_few_shifts():
    a = activity_of([(np.arange(0, 10, 2), np.arange(1, 6))], 10)
    everyone = np.ones(1, bool)
    assert null_best(a, a, 1, everyone, everyone, 50, 0, Silent()).shape == (9, 1)
