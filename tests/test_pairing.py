"""Pairs on planted features: the true ones are found, and what is left out stays out."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import atlas
from atlas.compare.activity import read_activity
from atlas.compare.pairing import Pairs, pair, read_side
from atlas.compare.settings import PairingSettings
from atlas.errors import BadInput
from tests.planted import Planted, PlantedSide, dense, planted
from tests.synthetic import concepts

CHOSEN = ("mutual", "best", "hungarian")
WELL_KNOWN = 40
"""Expected joint firings, over all documents, from which on a shared feature must be found."""


@pytest.fixture(scope="module")
def half_shared() -> Planted:
    """150 features shared of 300, of which the rarest fire ten times."""
    return planted(150, 150, 100_000)


def scores(it: Planted, found: Pairs, least_q: float = 1.0) -> tuple[float, float]:
    """Precision of the pairs with q ≤ least_q, and recall among features that fire often enough."""
    taken = found.q <= least_q
    true = it.partner[found.a[taken]] == found.b[taken]
    joint = it.rate * it.a.activity.n_units * 0.8 * 0.8
    wanted = np.flatnonzero((it.partner >= 0) & (joint >= 2 * WELL_KNOWN))
    return true.mean(), np.isin(wanted, found.a[taken][true]).mean()


@pytest.mark.parametrize(
    "method, least_precision, least_among_significant",
    [("mutual", 0.8, 0.9), ("best", 0.5, 0.9), ("hungarian", 0.6, 0.9)],
)
def test_shared_features_are_found(half_shared, method, least_precision, least_among_significant):
    found = pair(half_shared.a, half_shared.b, PairingSettings(method=method))
    precision, recall = scores(half_shared, found)
    assert precision >= least_precision
    assert recall >= 0.98
    precision, recall = scores(half_shared, found, 0.05)
    assert precision >= least_among_significant
    assert recall >= 0.98


@pytest.mark.parametrize("method", CHOSEN)
def test_what_a_pair_is_told_by(half_shared, method):
    """Every number is the plain one, over the units that it is said to be over."""
    it = half_shared
    found = pair(it.a, it.b, PairingSettings(method=method, shifts=0))
    x, y, chosen = dense(it.a.activity), dense(it.b.activity), it.a.choosing
    for column, units in (
        (found.r, np.ones(len(chosen), bool)), (found.r_chosen, chosen), (found.r_held_out, ~chosen)
    ):  # fmt: skip
        some = range(0, len(found.a), 7)
        plain = [np.corrcoef(x[units, found.a[i]], y[units, found.b[i]])[0, 1] for i in some]
        np.testing.assert_allclose(column[::7], plain, atol=1e-9)
    both = (x > 0)[:, found.a] & (y > 0)[:, found.b]
    assert np.array_equal(both.sum(axis=0), found.n_both)
    assert both[chosen].sum(axis=0).min() >= 20
    assert (np.diff(found.r) <= 0).all()
    assert np.isnan(found.p).all()
    assert np.isnan(found.q).all()
    assert np.isnan(found.distance).all()
    enough = (x[chosen] > 0).sum(axis=0) >= 20
    assert (found.n_a, enough[found.a].all()) == (enough.sum(), True)


def test_methods_are_one_to_one_or_not(half_shared):
    best, mutual, hungarian = (
        pair(half_shared.a, half_shared.b, PairingSettings(method=method, shifts=0))
        for method in ("best", "mutual", "hungarian")
    )
    assert len(set(best.a)) == len(best.a) > len(set(best.b))
    for found in (mutual, hungarian):
        assert len(set(found.a)) == len(found.a) == len(set(found.b))
    back = pair(half_shared.b, half_shared.a, PairingSettings(method="mutual", shifts=0))
    assert set(zip(mutual.a, mutual.b, strict=True)) == set(zip(back.b, back.a, strict=True))
    assert set(zip(mutual.a, mutual.b, strict=True)) <= set(zip(best.a, best.b, strict=True))
    assert len(mutual.a) < len(hungarian.a) <= len(best.a)
    assert hungarian.r_chosen.sum() >= mutual.r_chosen.sum()


def test_held_out_documents_do_not_share_the_optimism_of_choosing():
    """Of unrelated features the best r is high where it was looked for, and 0 elsewhere."""
    it = planted(0, 200, 20_000, rates=(1e-3, 1e-2))
    found = pair(it.a, it.b, PairingSettings(method="best", min_joint=2, shifts=0))
    assert found.r_chosen.mean() > 0.05
    assert abs(np.nanmean(found.r_held_out)) < 0.01


def test_a_minimum_of_joint_firings_leaves_rare_noise_out():
    it = planted(0, 300, 20_000, rates=(1e-4, 1e-3))
    least = [
        pair(it.a, it.b, PairingSettings(method="best", min_joint=n, shifts=0)) for n in (1, 20)
    ]
    assert least[0].r_chosen.max() > 0.1
    assert len(least[1].a) == 0
    assert (least[1].n_a, least[1].n_b) < (least[0].n_a, least[0].n_b)
    assert least[1].r.dtype == float


@pytest.mark.parametrize("method", CHOSEN)
def test_only_the_features_asked_for_are_paired(half_shared, method):
    only_a, only_b = np.arange(0, 300, 2), np.arange(0, 300, 3)
    settings = PairingSettings(method=method, shifts=3)
    found = pair(half_shared.a, half_shared.b, settings, only_a=only_a, only_b=only_b)
    assert len(found.a)
    assert set(found.a) <= set(only_a)
    assert set(found.b) <= set(only_b)
    assert found.n_a <= len(only_a)
    nobody = np.empty(0, np.int64)
    found = pair(half_shared.a, half_shared.b, settings, only_a=nobody, only_b=only_b)
    assert (len(found.a), found.n_a) == (0, 0)


def test_features_that_fire_on_non_concepts_may_be_left_out():
    it = planted(40, 0, 20_000, rates=(1e-2, 1e-1))
    texts = np.where(np.arange(20_000) % 20 == 0, ".", "word")
    a, b = (PlantedSide(side.activity, texts, frozenset(".")) for side in (it.a, it.b))
    everything, concepts_only = (
        pair(a, b, PairingSettings(concepts_only=only, shifts=0)) for only in (False, True)
    )
    assert 0 < (~a.of_concepts).sum() < 40
    assert a.of_concepts[concepts_only.a].all()
    assert b.of_concepts[concepts_only.b].all()
    assert concepts_only.n_a == a.of_concepts.sum()
    both = a.of_concepts & b.of_concepts[it.partner]
    assert set(concepts_only.a) == set(np.flatnonzero(both))
    assert len(concepts_only.a) < len(everything.a)


@pytest.mark.parametrize("over", ["words", "tokens"])
def test_features_of_one_concept_are_each_others(toy: Path, over):
    """toy-a's SAEs have a feature for each concept; the same through SQL's `pearson`."""
    with atlas.open(toy) as opened, closing(opened.cursor()) as con:
        a, b = (read_side(opened.cursor, sae, over) for sae in (0, 1))
        found = pair(a, b, PairingSettings(over=over, min_joint=5, shifts=0))
        same = concepts(0)[found.a] == concepts(1)[found.b]
        assert same.mean() > 0.9
        assert len(found.a) > 15
        assert np.array_equal(read_activity(con, 0, over).sum_q, a.activity.sum_q)
        if over == "words":
            name = f"toy-a/0-resid_post/{found.a[0]}"
            query = "select score from similar_exact(?, k := 1, within := 'toy-a/1-resid_post')"
            assert con.execute(query, [name]).fetchone()[0] == pytest.approx(found.r[0])
        documents = con.execute(
            "select document_id from words order by word"
            if over == "words"
            else "select document_id from tokens where token < (select n_tokens from tokenizers"
            " where tokenizer_id = 0) order by token"
        ).fetchnumpy()["document_id"]
        assert np.array_equal(a.choosing, documents % 2 == 0)


def test_what_cannot_be_paired_is_told(toy: Path):
    with atlas.open(toy) as opened:
        a, c = (read_side(opened.cursor, sae, "tokens") for sae in (0, 3))
        with pytest.raises(BadInput, match=r"The tokens of 'pieces' are not those of 'characters'"):
            pair(a, c, PairingSettings(over="tokens"))
        with pytest.raises(BadInput, match="over='tokens'"):
            pair(a, a, PairingSettings(method="lan2024"))
