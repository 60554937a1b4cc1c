"""Pairings as published: Lan et al. 2024 over tokens, and SAE Match by weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import atlas
from atlas.compare import sae_match
from atlas.compare.pairing import pair, read_side
from atlas.compare.settings import PairingSettings
from atlas.directions import read_vectors
from atlas.errors import BadInput
from tests.planted import PlantedSide, activity_from, dense, planted
from tests.synthetic import build_synthetic

NON_CONCEPTS = frozenset([".", ","])


def lan_2024(a: PlantedSide, b: PlantedSide) -> list[tuple[int, int]]:
    """Steps 3 to 7 of the published code, by dense matrices."""
    x, y = dense(a.activity).astype(float), dense(b.activity).astype(float)
    x, y = ((m - m.mean(axis=0)) / (m.std(axis=0, ddof=1) + 1e-8) for m in (x, y))
    correlation = x.T @ y / len(x)
    pairs = list(enumerate(correlation.argmax(axis=0)))  # of every B-feature
    kept = []
    for j, i in pairs:
        ours, theirs = a.top_texts[i], b.top_texts[j]
        if ours & NON_CONCEPTS or theirs & NON_CONCEPTS or not ours & theirs:
            continue
        kept.append((i, j))
    seen, one_to_one = set(), []
    for i, j in kept:
        if i not in seen:
            one_to_one.append((i, j))
            seen.add(i)
    return [(i, j) for i, j in one_to_one if correlation[i, j] > 0.1]


@pytest.mark.parametrize("seed", range(3))
def test_lan2024_is_the_published_algorithm(seed):
    """With several B-features for one A-feature, so that the first seen is not the best."""
    n = 10_000
    it = planted(60, 30, n, rates=(1e-3, 5e-2), agreement=0.9, seed=seed)
    rng = np.random.default_rng(seed)
    texts = np.array([".", ",", *(f"word{i}" for i in range(60))])[rng.integers(0, 62, n)]
    y = dense(it.b.activity)
    for i in range(15):  # weaker copies of features, before and behind the original
        y[:, 89 - i] = y[:, i] * (rng.random(n) < 0.7)
    a = PlantedSide(it.a.activity, texts, NON_CONCEPTS)
    b = PlantedSide(activity_from(y), texts, NON_CONCEPTS)
    expected = lan_2024(a, b)
    found = pair(a, b, PairingSettings(method="lan2024", over="tokens"))
    assert sorted(zip(found.a, found.b, strict=True)) == sorted(expected)
    best = pair(a, b, PairingSettings(method="mutual", min_joint=1, shifts=0))
    first_seen = set(expected) - set(zip(best.a, best.b, strict=True))
    assert len(expected) > 10
    assert first_seen  # where mutual partners differ, or the test shows little
    assert np.array_equal(found.r, found.r_chosen)
    assert found.r.min() > 0.1
    assert np.isnan(found.r_held_out).all()
    assert np.isnan(found.p).all()


def test_lan2024_on_an_atlas(toy: Path):
    with atlas.open(toy) as opened:
        a, b = (read_side(opened.cursor, sae, "tokens") for sae in (0, 1))
        found = pair(a, b, PairingSettings(method="lan2024", over="tokens"))
        assert len(set(found.a)) == len(found.a) == len(set(found.b)) > 0
        for i, j in zip(found.a, found.b, strict=True):
            assert a.top_texts[i] & b.top_texts[j]


@pytest.fixture
def rescaled(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """An atlas whose second SAE is its first one: permuted, and each feature in units of its own.

    Features have thresholds, and B's inputs and outputs are scaled otherwise than A's.
    """
    path = build_synthetic(tmp_path / "rescaled.atlas")
    rng = np.random.default_rng(0)
    permutation, pre_bias = rng.permutation(24), rng.standard_normal(16)
    unit, threshold = np.exp(rng.standard_normal(24)), np.exp(0.3 * rng.standard_normal(24))
    bias = rng.standard_normal(24)
    with atlas.open(path, write=True) as opened:
        con = opened.cursor()
        encoder, decoder = (read_vectors(con, role, 0) for role in ("encoder", "decoder"))
        # Activations in `unit`s, on inputs scaled by 2.5 instead of 1.25, reconstruct the same.
        encoder_b = unit[:, None] * encoder / 2
        bias_b = unit * (bias - encoder @ pre_bias) + encoder_b @ pre_bias
        rows = {
            "encoder": (encoder, encoder_b),
            "encoder_bias": (bias, bias_b),
            "threshold": (threshold, unit * threshold),
            "decoder": (decoder, 2 * decoder / unit[:, None]),
        }
        for i, j in enumerate(permutation.tolist()):
            for column, values in rows.items():
                for feature_id, value in zip((i, 24 + j), values, strict=True):
                    con.execute(
                        f"update vectors set {column} = ? where feature_id = ?",
                        [value[i].tolist(), feature_id],
                    )
        con.execute("update saes set pre_bias = ? where sae_id < 2", [pre_bias.tolist()])
        con.execute("update saes set input_scale = 2.5, output_scale = 2.5 where sae_id = 1")
        con.close()
    return path, permutation


def test_sae_match_finds_a_permutation_under_rescaled_thresholds(rescaled):
    path, permutation = rescaled
    with atlas.open(path) as opened:
        a, b = (read_side(opened.cursor, sae, "words") for sae in (0, 1))
        found = pair(a, b, PairingSettings(method="sae_match"))
        assert np.array_equal(found.b, permutation[found.a])
        assert sorted(found.a) == list(range(24))
        assert found.distance.max() < 1e-9
        assert np.isnan(found.r_chosen).all()
        assert np.isnan(found.p).all()
        some = pair(a, b, PairingSettings(method="sae_match"), only_a=np.arange(5))
        assert sorted(some.a) == list(range(5))
        assert np.array_equal(some.b, permutation[some.a])


def test_without_thresholds_decoders_have_length_one(rescaled):
    path, permutation = rescaled
    with atlas.open(path, write=True) as opened:
        opened.execute("update vectors set threshold = null where feature_id = 3")
    with atlas.open(path) as opened:
        a, b = (read_side(opened.cursor, sae, "words") for sae in (0, 1))
        found = pair(a, b, PairingSettings(method="sae_match"))
        assert np.array_equal(found.b, permutation[found.a])
        assert found.distance.max() < 1e-9


def test_distances_are_mean_squared_errors_and_rise(toy: Path):
    with atlas.open(toy) as opened:
        a, b = (read_side(opened.cursor, sae, "words") for sae in (0, 1))
        found = pair(a, b, PairingSettings(method="sae_match"))
        assert (np.diff(found.distance) >= 0).all()
        ours, theirs = (a.read(lambda con, s=s: sae_match.Weights(con, s)) for s in (0, 1))
        length_a, length_b = (np.linalg.norm(w.decoder, axis=1) for w in (ours, theirs))
        for i, j, distance in zip(found.a, found.b, found.distance, strict=True):
            decoders = ours.decoder[i] / length_a[i] - theirs.decoder[j] / length_b[j]
            encoders = ours.encoder[i] * length_a[i] - theirs.encoder[j] * length_b[j]
            assert distance == pytest.approx((decoders**2).mean() + (encoders**2).mean())


@pytest.mark.parametrize("n_a, n_b", [(300, 300), (200, 300), (300, 200)])
def test_matching_among_the_nearest_is_the_exact_one(n_a, n_b):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 8))
    order = rng.permutation(n_b)
    y = (x[:n_b] + 0.3 * rng.standard_normal((n_b, 8)))[order]
    exact, near = sae_match._exact(x[:n_a], y), sae_match._among_nearest(x[:n_a], y)
    assert np.array_equal(exact, near)


def test_directions_of_different_spaces_are_not_matched(toy: Path):
    with atlas.open(toy) as opened:
        a, b = (read_side(opened.cursor, sae, "words") for sae in (0, 2))
        with pytest.raises(BadInput, match=r"'toy-a/0-resid_post'.*toy-b/residual.*mutual"):
            pair(a, b, PairingSettings(method="sae_match"))
