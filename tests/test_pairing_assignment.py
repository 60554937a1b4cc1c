"""The sparse assignment is the best one there is."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from atlas.compare import assignment
from atlas.compare.assignment import assign, best_assignment
from atlas.compare.pairing import pair
from atlas.compare.products import candidates
from atlas.compare.settings import PairingSettings
from atlas.progress import Silent
from tests.planted import planted


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12), st.floats(0, 1))
@settings(deadline=None, max_examples=200)
def test_no_assignment_gains_more(seed, n_a, n_b, density):
    rng = np.random.default_rng(seed)
    gain = np.where(rng.random((n_a, n_b)) < density, rng.random((n_a, n_b)) + 1e-3, 0)
    a, b = gain.nonzero()
    taken = assign(a, b, gain[a, b])
    assert len(set(a[taken])) == len(set(b[taken])) == len(taken)
    row, column = linear_sum_assignment(gain, maximize=True)  # 0: stays alone
    np.testing.assert_allclose(gain[a[taken], b[taken]].sum(), gain[row, column].sum())


def test_correlations_are_assigned_as_by_the_dense_solver():
    it = planted(60, 60, 20_000, rates=(1e-3, 1e-1))
    found = pair(it.a, it.b, PairingSettings(method="hungarian", min_joint=5, shifts=0))
    every = candidates(it.a.chosen, it.b.chosen, 5, 200)
    r = np.zeros((120, 120))
    r[every.a, every.b] = every.r
    row, column = linear_sum_assignment(r, maximize=True)
    np.testing.assert_allclose(found.r_chosen.sum(), r[row, column].sum(), rtol=1e-12)


def test_of_too_many_candidates_the_strongest_of_either_side_do(monkeypatch):
    """And that is told."""
    it = planted(60, 60, 20_000, rates=(1e-3, 1e-1))
    told = []

    class Listener(Silent):
        def notice(self, sentence: str) -> None:
            told.append(sentence)

    everyone = np.ones(120, bool)
    ask = (it.a.activity, it.b.activity, 3, everyone, everyone, Listener())
    whole = best_assignment(*ask)
    assert not told
    monkeypatch.setattr(assignment, "_CANDIDATES", 120 * 6)
    few = best_assignment(*ask)
    assert "the strongest 6" in told[0]
    shared = it.partner >= 0
    for ia, ib in (whole, few):
        true = it.partner[ia] == ib
        assert true.sum() >= 0.95 * shared.sum()
