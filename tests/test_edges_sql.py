"""Edges in SQL: every measure against an independent computation, and intervals that hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score, mutual_info_score

import atlas
from atlas import Atlas, activations
from atlas.errors import QueryError
from tests.synthetic_links import is_strong

A0, A1, C2 = "toy-a/0-resid_post", "toy-a/1-resid_post", "toy-c/2-resid_post"
MEASURES = ("pearson", "jaccard", "sufficiency", "necessity", "mutual_information")
ALL = (*MEASURES, "activation_cosine")


@pytest.fixture(scope="module")
def store(toy: Path) -> Iterator[Atlas]:
    with atlas.open(toy) as opened:
        yield opened


def measured(x: np.ndarray, y: np.ndarray, active: Any = lambda z: z > 0) -> dict[str, float]:
    """The paper's measures of two activations, each by a library's function or its definition."""
    a, b = active(x), active(y)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "pearson": scipy.stats.pearsonr(x, y).statistic,
            "jaccard": jaccard_score(a, b) if (a | b).any() else np.nan,
            "sufficiency": b[a].mean() if a.any() else np.nan,
            "necessity": a[b].mean() if b.any() else np.nan,
            "mutual_information": mutual_info_score(a, b),
            "activation_cosine": x @ y / (np.linalg.norm(x) * np.linalg.norm(y)),
        }


def columns(store: Atlas, sae: str, over: str) -> np.ndarray:
    """The SAE's activations, float64 (n_units, d_sae)."""
    return activations.load(store, sae, over, "activation").toarray().astype("f8")


@pytest.mark.parametrize("a, b, over", [(A0, A1, "tokens"), (A0, C2, "words")])
@pytest.mark.parametrize("view, active", [("edges", lambda z: z > 0), ("edges_strong", is_strong)])
def test_every_measure_of_every_edge(
    store: Atlas, a: str, b: str, over: str, view: str, active: Any
) -> None:
    X, Y = columns(store, a, over), columns(store, b, over)
    rows = store.rows(
        f"select feature_a, feature_b, n, n_a, n_b, n_both, {', '.join(ALL)} from {view}"
        " where sae_a = ? and sae_b = ?",
        [a, b],
    )
    assert len(rows) > 20
    for feature_a, feature_b, n, n_a, n_b, n_both, *found in rows:
        x = X[:, int(feature_a.rpartition("/")[2])]
        y = Y[:, int(feature_b.rpartition("/")[2])]
        fired_a, fired_b = active(x), active(y)
        counts = (len(x), fired_a.sum(), fired_b.sum(), (fired_a & fired_b).sum())
        assert (n, n_a, n_b, n_both) == counts
        np.testing.assert_allclose(found, list(measured(x, y, active).values()), atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 60),
    rate=st.floats(0, 1),
    noise=st.floats(0, 0.5),
    seed=st.integers(0, 10_000),
)
def test_the_measures_follow_from_what_is_kept(
    store: Atlas, n: int, rate: float, noise: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = np.where(rng.random(n) < rate, rng.integers(1, 1000, n), 0)
    other = np.where(rng.random(n) < rate, rng.integers(1, 1000, n), 0)
    y = np.where(rng.random(n) < noise, other, x // 2)
    kept = {
        "n": n, "n_a": (x > 0).sum(), "n_b": (y > 0).sum(), "n_both": ((x > 0) & (y > 0)).sum(),
        "sum_a": x.sum(), "sum_b": y.sum(), "sum_a2": (x**2).sum(), "sum_b2": (y**2).sum(),
        "sum_ab": (x * y).sum(),
    }  # fmt: skip
    (row,) = store.rows(
        """
        select
            pearson($n, $sum_a, $sum_b, $sum_a2, $sum_b2, $sum_ab),
            jaccard($n_a, $n_b, $n_both),
            sufficiency($n_a, $n_both),
            necessity($n_b, $n_both),
            mutual_information($n, $n_a, $n_b, $n_both),
            activation_cosine($sum_a2, $sum_b2, $sum_ab)
        """,
        {name: int(value) for name, value in kept.items()},
    )
    expected = [None if value != value else value for value in _quietly(x, y).values()]
    for name, ours, theirs in zip(ALL, row, expected, strict=True):
        assert ours == (theirs if theirs is None else pytest.approx(theirs, abs=1e-9)), name


def _quietly(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy tells of constant input.
        return measured(x.astype("f8"), y.astype("f8"))


@pytest.mark.parametrize("above, view", [(0, "edges"), (0.2, "edges_strong")])
@pytest.mark.parametrize("b", [A1, C2])
def test_an_edge_is_told_as_it_is_kept(store: Atlas, above: float, view: str, b: str) -> None:
    shared = f"feature_a, feature_b, over, n, n_a, n_b, n_both, {', '.join(ALL)}"
    rows = store.rows(
        f"select {shared} from {view} where sae_a = ? and sae_b = ? order by n_both desc limit 5",
        [A0, b],
    )
    assert len(rows) == 5
    for row in rows:
        told = store.rows(f"select {shared} from edge(?, ?, above := {above})", row[:2])
        assert told == [row]


def test_an_edge_of_features_that_never_meet(store: Atlas) -> None:
    (row,) = store.rows(f"select n_a, n_both, jaccard, pearson_low from edge('{A0}/23', '{A1}/3')")
    assert row == (0, 0, 0, None)


def test_an_edge_has_the_decoders_cosine(store: Atlas) -> None:
    pair = [f"{A0}/3", f"{A1}/5"]
    query = "select decoder_cosine, decoder_cosine(feature_a, feature_b) from edge(?, ?)"
    ((ours, theirs),) = store.rows(query, pair)
    assert ours == theirs is not None
    assert store.rows("select decoder_cosine from edge(?, ?)", [pair[0], f"{C2}/1"]) == [(None,)]


def test_a_link_has_its_card(store: Atlas) -> None:
    (row,) = store.rows(
        "select n_pairs, linked_a, linked_b, n from link_cards where sae_a = ? and sae_b = ?",
        [A0, A1],
    )
    (expected,) = store.rows(
        "select count(*), count(distinct feature_a) / 21, count(distinct feature_b) / 21,"
        " any_value(n) from edges where sae_a = ? and sae_b = ?",
        [A0, A1],
    )
    assert row == expected


# -- intervals ----------------------------------------------------------------------------------


def test_normal_quantiles(store: Atlas) -> None:
    p = np.concatenate([np.linspace(0.5, 0.9999, 50), 1 - np.logspace(-4.1, -11, 20)])
    rows = store.rows("select _normal_quantile(p) from (select unnest(?) as p)", [p.tolist()])
    np.testing.assert_allclose([row[0] for row in rows], scipy.stats.norm.ppf(p), rtol=1e-13)
    with pytest.raises(QueryError, match="A confidence is between 0 and 1"):
        store.rows("select share_interval(1, 2, confidence := 1)")


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("k, n", [(0, 5), (5, 5), (1, 3), (70, 2000), (1999, 2000)])
def test_intervals_of_shares_are_scipys(store: Atlas, k: int, n: int, confidence: float) -> None:
    expected = scipy.stats.binomtest(k, n).proportion_ci(confidence, "wilson")
    ((found,),) = store.rows("select share_interval(?, ?, confidence := ?)", [k, n, confidence])
    assert (found["low"], found["high"]) == pytest.approx(tuple(expected), abs=1e-12)


def test_without_units_there_is_no_interval(store: Atlas) -> None:
    query = "select share_interval(0, 0), pearson_interval(0.5, 3), pearson_interval(null, 9)"
    assert store.rows(query) == [(None, None, None)]


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_intervals_of_correlations_are_scipys(store: Atlas, confidence: float) -> None:
    x, y = np.random.default_rng(0).standard_normal((2, 40))
    result = scipy.stats.pearsonr(x, x + y)
    expected = result.confidence_interval(confidence)
    query = "select pearson_interval(?, 40, confidence := ?)"
    ((found,),) = store.rows(query, [float(result.statistic), confidence])
    assert (found["low"], found["high"]) == pytest.approx(tuple(expected), abs=1e-12)


def effective(x: np.ndarray, y: np.ndarray) -> float:
    """n_effective of edge(), by its definition."""
    n, either = len(x), ((x > 0) | (y > 0)).sum()
    u, v = ((z - z.mean()) / z.std() for z in (x, y))
    r = (u * v).mean()
    variance = ((u * v - r * (u * u + v * v) / 2) ** 2).mean()
    return float(min(either, n * (1 - r * r) ** 2 / variance))


def test_an_edge_has_intervals(store: Atlas) -> None:
    X, Y = columns(store, A0, "tokens"), columns(store, A1, "tokens")
    rows = store.rows(
        "select feature_a, feature_b from edges where sae_a = ? and sae_b = ?"
        " order by pearson desc limit 3",
        [A0, A1],
    )
    for pair in rows:
        x, y = (Z[:, int(name.rpartition("/")[2])] for Z, name in zip((X, Y), pair, strict=True))
        ((n, found, expected),) = store.rows(
            """
            select
                n_effective,
                [pearson_low, jaccard_low, sufficiency_low, necessity_low,
                 pearson_high, jaccard_high, sufficiency_high, necessity_high],
                list_transform(
                    [pearson_interval(pearson, n_effective, 0.9),
                     share_interval(n_both, n_a + n_b - n_both, 0.9),
                     share_interval(n_both, n_a, 0.9), share_interval(n_both, n_b, 0.9)],
                    lambda one: [one.low, one.high]
                )
            from edge(?, ?, confidence := 0.9)
            """,
            list(pair),
        )
        assert n == pytest.approx(effective(x, y))
        assert found == [one[0] for one in expected] + [one[1] for one in expected]


@pytest.mark.parametrize("keep, spread", [(0.9, 0.3), (0.5, 0.3), (0.5, 0.6), (0.1, 0.5)])
def test_intervals_hold_the_truth_as_often_as_they_say(
    store: Atlas, keep: float, spread: float
) -> None:
    """Sparse features that share as many of their units as `keep` says, else independent."""
    rng = np.random.default_rng(1)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        rates = 0.01 * np.array([keep, 1 - keep, 1 - keep])
        shared, alone, other = rng.random((3, n)) < rates[:, None]
        common = rng.lognormal(0, spread, n)
        x, y = common * rng.lognormal(0, spread, (2, n))
        return np.where(shared | alone, x, 0), np.where(shared | other, y, 0)

    X, Y = draw(2_000_000)
    truth = np.corrcoef(X, Y)[0, 1], ((X > 0) & (Y > 0)).sum() / ((X > 0) | (Y > 0)).sum()
    trials = []
    for _ in range(300):
        x, y = draw(10_000)
        both, either = int(((x > 0) & (y > 0)).sum()), int(((x > 0) | (y > 0)).sum())
        trials.append((float(np.corrcoef(x, y)[0, 1]), effective(x, y), both, either))
    rows = store.rows(
        "select pearson_interval(r, n), share_interval(k, m)"
        " from (select unnest(?) as r, unnest(?) as n, unnest(?) as k, unnest(?) as m)",
        [list(column) for column in zip(*trials, strict=True)],
    )
    held = [
        np.mean([one[kind]["low"] <= truth[kind] <= one[kind]["high"] for one in rows])
        for kind in (0, 1)
    ]
    assert held[0] > 0.88
    assert 0.92 < held[1] < 0.98
