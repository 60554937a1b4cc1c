"""Sums over pairs of features: exact, whatever the threads, and nothing else than Pearson's r."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from atlas.compare.activity import Activity
from atlas.compare.products import (
    Best,
    best_partners,
    candidates,
    correlation_matrix,
    correlations,
    joint_statistics,
)
from tests.planted import activity_from, dense, planted

Q = st.sampled_from([0, 0, 0, 0, 1, 2, 3, 70_000])


def matrices(n_units: int = 12) -> st.SearchStrategy:
    width = st.integers(1, 6)
    one = width.flatmap(lambda d: arrays.arrays(np.int64, (n_units, d), elements=Q))
    return st.tuples(one, one)


def pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(d_x, d_y), 0 where a column is constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.corrcoef(x, y, rowvar=False)[: x.shape[1], x.shape[1] :]
    r[np.ptp(x, axis=0) == 0] = 0
    r[:, np.ptp(y, axis=0) == 0] = 0
    return r


def plain_best(x: np.ndarray, y: np.ndarray, min_joint: int) -> tuple[np.ndarray, np.ndarray]:
    """(d_x,): r of the best partner, NaN without one; and (d_x, d_y): which ones are as good."""
    r = pearson(x, y)
    r[((x > 0).T.astype(int) @ (y > 0)) < min_joint] = 0
    r[r < 1e-12] = 0
    best = r.max(axis=1)
    return np.where(best > 0, best, np.nan), (r >= best[:, None] - 1e-12) & (r > 0)


MEETS = st.one_of(
    st.none(),
    st.permutations(range(12)).map(np.array),
    arrays.arrays(np.int64, 12, elements=st.integers(0, 11)),
)


@given(matrices(), st.integers(1, 4), MEETS, st.integers(1, 3))
@settings(deadline=None, max_examples=150)
def test_best_partners_are_those_of_corrcoef(both, min_joint, meets, threads):
    x, y = both
    a, b = activity_from(x), activity_from(y)
    enough = (y > 0).sum(axis=0) >= min_joint
    if meets is not None:
        y = y[meets]
    y = y * enough  # counted before units meet otherwise
    found = best_partners(a, b, min_joint, meets=meets, threads=threads)
    for mine, theirs, partner, r, n_both in (
        (x, y, found.partner_a, found.r_a, found.n_both_a),
        (y, x, found.partner_b, found.r_b, found.n_both_b),
    ):
        best, as_good = plain_best(mine, theirs, min_joint)
        # At r ≈ 0 rounding decides whether there is a partner.
        clear = np.isnan(r) == np.isnan(best)
        assert (clear | (np.nan_to_num(r) < 1e-7)).all()
        np.testing.assert_allclose(r[clear], best[clear], atol=1e-9)
        for i in np.flatnonzero((partner >= 0) & clear):
            assert as_good[i, partner[i]]
            assert n_both[i] == np.sum((mine[:, i] > 0) & (theirs[:, partner[i]] > 0))
        assert (n_both[partner < 0] == 0).all()


@given(matrices())
@settings(deadline=None, max_examples=100)
def test_given_pairs_are_those_of_corrcoef(both):
    x, y = both
    a, b = activity_from(x), activity_from(y)
    ia, ib = (index.ravel() for index in np.indices((a.d_sae, b.d_sae)))
    expected = pearson(x, y)
    n_both, sum_ab = joint_statistics(a, b, ia, ib)
    assert np.array_equal(sum_ab.reshape(expected.shape), x.T @ y)
    assert np.array_equal(n_both.reshape(expected.shape), (x > 0).T.astype(int) @ (y > 0))
    np.testing.assert_allclose(correlations(a, b, ia, ib), expected.ravel(), atol=1e-9)
    matrix = correlation_matrix(a, b, np.arange(a.d_sae), np.arange(b.d_sae))
    np.testing.assert_allclose(matrix, expected, atol=1e-6)
    np.testing.assert_array_equal(
        correlation_matrix(b, a, ib[:2], ia[:3]), matrix.T[ib[:2]][:, ia[:3]]
    )


def test_the_number_of_threads_changes_nothing():
    it = planted(40, 60, 20_000, seed=1)
    one, *others = (
        best_partners(it.a.activity, it.b.activity, 3, threads=threads) for threads in (1, 2, 5)
    )
    for other in others:
        for name in Best._fields:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_of_equals_the_lowest_index_is_best():
    column = np.array([0, 3, 0, 0, 5, 1, 0, 0])
    a = activity_from(np.stack([column] * 9, axis=1))
    found = best_partners(a, a, 1, threads=3)
    assert (found.partner_a == 0).all()
    assert (found.partner_b == 0).all()
    np.testing.assert_allclose(found.r_a, 1)


def test_a_product_beyond_what_integers_hold():
    """n·Σab ≈ 2·10²⁰, more than 2⁶³: the sums are exact, and only r is a floating-point number."""
    rng = np.random.default_rng(0)
    n = 200_000
    x = rng.integers(1 << 22, 1 << 23, (20, 2))
    activity = Activity(
        n, np.array([0, 20, 40]), np.r_[0:20, 10:30].astype(np.int32), x.T.ravel().astype(np.int32)
    )
    full = dense(activity)
    r = correlations(activity, activity, np.array([0, 0]), np.array([1, 0]))
    np.testing.assert_allclose(r, [np.corrcoef(full.T)[0, 1], 1], atol=1e-12)


def test_features_that_never_vary_are_nobodys():
    ones, sometimes = np.full(10, 7), np.arange(10) % 2
    a = activity_from(np.stack([ones, np.zeros(10, int), sometimes], axis=1))
    assert np.array_equal(a.inverse_norm > 0, [False, False, True])
    found = best_partners(a, a, 1)
    assert found.partner_a.tolist() == [-1, -1, 2]
    assert np.isnan(found.r_a[:2]).all()


def test_sums_are_those_of_the_whole_sparse_product():
    it = planted(50, 50, 20_000, seed=2)
    a, b = it.a.activity, it.b.activity
    x, y = scipy.sparse.csr_array(dense(a)), scipy.sparse.csr_array(dense(b))
    product, common = (x.T @ y).toarray(), ((x > 0).astype(int).T @ (y > 0).astype(int)).toarray()
    found = candidates(a, b, 1, 1000)
    assert found.complete
    n_both, sum_ab = joint_statistics(a, b, found.a, found.b)
    assert np.array_equal(sum_ab, product[found.a, found.b])
    positive = (pearson(x.toarray(), y.toarray()) > 1e-12) & (common > 0)
    order = np.lexsort((found.b, found.a))
    assert np.array_equal(np.argwhere(positive), np.stack([found.a, found.b], axis=1)[order])
    np.testing.assert_allclose(found.r, correlations(a, b, found.a, found.b), atol=1e-12)
    assert np.array_equal(n_both, common[found.a, found.b])


@pytest.mark.parametrize("most", [1, 3, 17])
def test_of_many_candidates_the_strongest_are_kept(most):
    it = planted(30, 30, 20_000, rates=(1e-3, 1e-1), seed=3)
    a, b = it.a.activity, it.b.activity
    everything, some = candidates(a, b, 2, 60), candidates(a, b, 2, most, threads=2)
    assert everything.complete
    assert not some.complete
    for i in range(a.d_sae):
        best = np.sort(everything.r[everything.a == i])[::-1][:most]
        assert np.array_equal(np.sort(some.r[some.a == i])[::-1], best)


def test_features_and_units_that_are_left_out():
    it = planted(30, 10, 20_000, rates=(1e-2, 1e-1), seed=4)
    a, b = it.a.activity, it.b.activity
    take_a, take_b = np.arange(40) % 2 == 0, np.arange(40) % 3 == 0
    found = best_partners(a, b, 5, take_a=take_a, take_b=take_b)
    assert set(np.flatnonzero(found.partner_a >= 0)) <= set(np.flatnonzero(take_a))
    assert take_b[found.partner_a[found.partner_a >= 0]].all()
    mask = np.arange(a.n_units) % 7 < 3
    assert np.array_equal(dense(a.only(mask)), dense(a)[mask])
    indptr, feature, q = a.by_unit
    rows = scipy.sparse.csr_array((q, feature, indptr), shape=(a.n_units, a.d_sae))
    assert np.array_equal(rows.toarray(), dense(a))


def test_nothing_compiled_is_loaded_before_it_is_needed():
    code = (
        "import sys, atlas.compare.pairing; "
        "sys.exit(str([name for name in ('numba', 'scipy', 'torch') if name in sys.modules]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr.strip() == "[]"


def test_loops_run_where_nothing_can_be_kept_on_disk():
    code = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []
from tests.planted import planted
from atlas.compare.products import joint_statistics
import numpy as np
a = planted(2, 0, 1000, rates=(.1, .2)).a.activity
n_both, _ = joint_statistics(a, a, np.arange(2), np.arange(2))
assert n_both.tolist() == a.n_active.tolist()
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not ran.returncode, ran.stderr
