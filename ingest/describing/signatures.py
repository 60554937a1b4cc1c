"""Signatures: fixed-width sketches of features' activations over words, comparable across models.

The count-sketch of Charikar, Chen and Farach-Colton ("Finding frequent items in data streams",
2002): every word has a pseudo-random bucket out of `BUCKETS` and a sign, both fixed functions of
the word's number and `SEED`, and a sparse vector x over words becomes the integer sums
S[b] = sum of sign(w) * x(w) over the words w in bucket b. Sums of shards add up to the sum of the
whole. Centring is a correction afterwards, since the sketch is linear: the sketch of (x - mean) is
S - mean * (sum of the signs in each bucket). The inner product of two centred sketches of unit norm
estimates Pearson's r over words with a standard error of about 1/sqrt(BUCKETS).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BUCKETS = 512
"""D, the width of a signature."""

SEED = 0x5A_E0A7_1A5
"""Fixed for the file format: signatures of different atlases compare only under one seed."""

_EXACT = 1 << 53


def bucket_and_sign(word: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bucket in [0, BUCKETS) and sign in {-1, 1} of each word number, both (n,) int64.

    SplitMix64's output function (Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", 2014) of seed and word; the sign is the lowest bit, the bucket the highest nine.
    """
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is meant
        z = word.astype(np.uint64) + np.uint64(SEED)
        z *= np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    bucket = (z >> np.uint64(64 - (BUCKETS - 1).bit_length())).astype(np.int64)
    sign = 1 - 2 * (z & np.uint64(1)).astype(np.int64)
    return bucket, sign


def bucket_sums(
    feature: NDArray[np.integer],
    word: NDArray[np.integer],
    q: NDArray[np.integer],
    n_features: int,
) -> NDArray[np.int64]:
    """S, int64 (n_features, BUCKETS), of the entries (feature, word, q), each (n,), in any order.

    feature: in [0, n_features); word: numbers over the whole reference corpus; q: integers.
    """
    bucket, sign = bucket_and_sign(word)
    key = feature.astype(np.int64) * BUCKETS + bucket
    signed = sign * q
    if int(np.abs(q, dtype=np.int64).sum(dtype=np.int64)) < _EXACT:
        # Sums of integers below 2^53 are exact in float64, and `bincount` is fast there only.
        sums = np.bincount(key, weights=signed, minlength=n_features * BUCKETS).astype(np.int64)
    else:
        sums = np.zeros(n_features * BUCKETS, np.int64)
        np.add.at(sums, key, signed)
    return sums.reshape(n_features, BUCKETS)


def sign_sums(n_words: int, first_word: int = 0, step: int = 1 << 20) -> NDArray[np.int64]:
    """Sum per bucket, (BUCKETS,), of the signs of `n_words` words from `first_word` on."""
    sums = np.zeros(BUCKETS, np.int64)
    end = first_word + n_words
    for first in range(first_word, end, step):
        bucket, sign = bucket_and_sign(np.arange(first, min(first + step, end)))
        sums += np.bincount(bucket, weights=sign, minlength=BUCKETS).astype(np.int64)
    return sums


def signatures(
    sums: NDArray[np.int64],
    sum_q: NDArray[np.int64],
    n_words: int,
    signs: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Unit signatures, float32 (n_features, BUCKETS); zeros for a dead or constant feature.

    sums: `bucket_sums` (n_features, BUCKETS); sum_q: sum over words of q (n_features,); n_words:
    words of the reference corpus, active or not; signs: `sign_sums` of these words.
    """
    mean = sum_q / max(n_words, 1)
    centred = sums - mean[:, None] * signs
    norm = np.sqrt(np.einsum("ij,ij->i", centred, centred))
    # A constant feature cancels exactly but for rounding, some 1e-16 of what was subtracted.
    live = norm > 1e-12 * np.sqrt(np.einsum("ij,ij->i", sums, sums, dtype=np.float64))
    scale = np.divide(1.0, norm, out=np.zeros_like(norm), where=live)
    unit: NDArray[np.float32] = (centred * scale[:, None]).astype(np.float32)
    return unit
