"""Signatures: integer sums that merge exactly, and inner products that estimate Pearson's r."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.ingest.describing.signatures import (
    BUCKETS,
    bucket_and_sign,
    bucket_sums,
    sign_sums,
    signatures,
)


def entries_of(dense: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(feature, word, q) of a dense matrix (n_features, n_words)."""
    feature, word = np.nonzero(dense)
    return feature, word, dense[feature, word]


def signatures_of(dense: np.ndarray) -> np.ndarray:
    sums = bucket_sums(*entries_of(dense), len(dense))
    n_words = dense.shape[1]
    return signatures(sums, dense.sum(axis=1), n_words, sign_sums(n_words))


def activations(rng: np.random.Generator, n: int, n_words: int) -> np.ndarray:
    """Sparse rows that share causes, so that some of them correlate."""
    causes = (rng.random((4, n_words)) < 0.05) * rng.integers(1, 5000, (4, n_words))
    own = (rng.random((n, n_words)) < 0.05) * rng.integers(1, 5000, (n, n_words))
    return own + causes[rng.integers(0, 4, n)] * rng.integers(0, 3, (n, 1))


def test_buckets_and_signs_never_change():
    # Signatures of atlases made at different times compare only under the same hash.
    bucket, sign = bucket_and_sign(np.array([0, 1, 2, 1000, 2**40]))
    assert bucket.tolist() == [60, 308, 89, 295, 304]
    assert sign.tolist() == [1, 1, 1, 1, -1]


def test_buckets_and_signs_are_even():
    bucket, sign = bucket_and_sign(np.arange(1_000_000))
    counts = np.bincount(bucket, minlength=BUCKETS)
    expected = 1_000_000 / BUCKETS
    assert len(counts) == BUCKETS
    # Chi squared of 511 degrees of freedom: mean 511, standard deviation 32.
    assert 350 < ((counts - expected) ** 2 / expected).sum() < 700
    assert abs(sign.sum()) < 5000
    assert abs(np.corrcoef(bucket, sign)[0, 1]) < 0.005


@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_sums_of_shards_add_up(seed, n_words, n_shards):
    rng = np.random.default_rng(seed)
    dense = activations(rng, 3, n_words)
    feature, word, q = entries_of(dense)
    shuffled = rng.permutation(len(q))
    whole = bucket_sums(feature[shuffled], word[shuffled], q[shuffled], 3)
    cuts = np.sort(rng.integers(0, n_words + 1, n_shards - 1))
    total, signs = np.zeros((3, BUCKETS), np.int64), np.zeros(BUCKETS, np.int64)
    for first, last in zip([0, *cuts], [*cuts, n_words], strict=True):
        here = (word >= first) & (word < last)
        total += bucket_sums(feature[here], word[here], q[here], 3)
        signs += sign_sums(last - first, first, step=7)
    assert (total == whole).all()
    assert (signs == sign_sums(n_words)).all()
    sum_q = dense.sum(axis=1)
    assert (signatures(total, sum_q, n_words, signs) == signatures_of(dense)).all()


def test_sums_are_exact_beyond_the_integers_of_float64():
    q = np.array([2**53, 1, 2**53, 1])
    word = np.zeros(4, np.int64)
    sums = bucket_sums(np.zeros(4, np.int64), word, q, 1)
    assert abs(int(sums.sum())) == 2**54 + 2


def test_equals_the_sketch_of_the_centred_vector():
    rng = np.random.default_rng(1)
    dense = activations(rng, 5, 3000)
    bucket, sign = bucket_and_sign(np.arange(3000))
    centred = dense - dense.mean(axis=1, keepdims=True)
    plain = np.zeros((5, BUCKETS))
    for b in range(BUCKETS):
        plain[:, b] = (centred * sign)[:, bucket == b].sum(axis=1)
    plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    np.testing.assert_allclose(signatures_of(dense), plain, atol=1e-6)


def test_inner_products_estimate_pearson():
    rng = np.random.default_rng(2)
    dense = activations(rng, 60, 20_000)
    found = signatures_of(dense).astype(float)
    above = np.triu_indices(60, 1)
    r = np.corrcoef(dense)[above]
    error = (found @ found.T)[above] - r
    assert r.max() > 0.7  # or there is nothing to estimate
    assert abs(error.mean()) < 0.01
    # The standard error is about 1 / sqrt(512) = .044, and less for large r.
    assert 0.01 < np.sqrt((error**2).mean()) < 0.05
    assert np.abs(error).max() < 0.25


def test_dead_and_constant_features_are_zero():
    dense = np.zeros((2, 50), np.int64)
    dense[1] = 7
    assert not signatures_of(dense).any()
