"""What one SAE's features add up to: sums over tokens and words, the tokens and words behind them.

Everything counted is an integer, so that no order and no block size shows in a result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atlas.errors import BadInput
from atlas.ingest.measuring.parts import Block
from atlas.ingest.measuring.segments import (
    Int64,
    group_entries,
    maxima_per_segment,
    segment_starts,
    stable_order,
    top_per_group,
)
from atlas.ingest.text.forms import WordForms

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
"""Of the active tokens' q: the lower order statistic, number floor(p (n - 1)) from 0."""

TOP_TOKENS = 20
"""Rows of `token_stats` per feature."""

TOP_FORMS = 40
"""Rows of `word_stats` per feature: more, because `fires_on` looks features up by form."""

Columns = dict[str, object]
"""Of a table, by name."""


@dataclass(frozen=True)
class WordEntries:
    """Features' activations on words, each the maximum over the word's tokens.

    Ordered by (feature, word).
    """

    feature: NDArray[np.int32]
    """(n,) number within the block."""
    word: NDArray[np.int64]
    """(n,)"""
    q: NDArray[np.int32]
    """(n,)"""

    def indptr(self, n_features: int) -> Int64:
        """(n_features + 1,) where each feature's entries begin, and their number."""
        return np.searchsorted(self.feature, np.arange(n_features + 1))


def word_entries(block: Block, word_of_token: NDArray[np.integer]) -> WordEntries:
    """Activations on words from those on tokens; `word_of_token`: (n_tokens,)."""
    feature, q = block.feature, block.q
    word = word_of_token[block.token].astype(np.int64)
    if ((word[1:] < word[:-1]) & (feature[1:] == feature[:-1])).any():
        # A tokenizer whose offsets go backwards; none of the usual ones does.
        order = stable_order(feature, word)
        feature, word, q = feature[order], word[order], q[order]
    starts = segment_starts(feature, word)
    return WordEntries(feature[starts], word[starts], maxima_per_segment(q, starts))


def feature_sums(block: Block, words: WordEntries, order: Int64, n_tokens: int) -> Columns:
    """Columns of `features`; `order` is the block's `strength_order`."""
    n_active = np.diff(block.indptr)
    max_q = per_feature(np.maximum, block.q, block.indptr)
    _check_range(max_q, n_active)
    word_indptr = words.indptr(block.n_features)
    return {
        "index": np.arange(block.n_features),
        "alive": n_active > 0,
        "density": n_active / n_tokens,
        "n_active": n_active,
        "sum_q": per_feature(np.add, block.q, block.indptr),
        "sum_q2": per_feature(np.add, block.q.astype(np.int64) ** 2, block.indptr),
        "max_q": max_q.astype(np.int32),
        "quantiles_q": _quantiles(block, order),
        "word_n_active": np.diff(word_indptr),
        "word_sum_q": per_feature(np.add, words.q, word_indptr),
        "word_sum_q2": per_feature(np.add, words.q.astype(np.int64) ** 2, word_indptr),
    }


def token_stats(block: Block, token_id: NDArray[np.int32], top: int = TOP_TOKENS) -> Columns:
    """Columns of `token_stats`: per feature the ids with the largest sum of q, ties by id."""
    n_ids = int(token_id.max(initial=0)) + 1
    groups = group_entries(block.feature, token_id[block.token], block.q, n_ids)
    best = top_per_group(groups.feature, groups.sum_q, top)
    return {
        "index": groups.feature[best],
        "token_id": groups.key[best].astype(np.int32),
        "n_active": groups.count[best],
        "sum_q": groups.sum_q[best],
        "max_q": groups.max_q[best].astype(np.int32),
    }


def word_stats(block: Block, words: WordEntries, forms: WordForms, top: int = TOP_FORMS) -> Columns:
    """Columns of `word_stats`: per feature the lower-case forms with the largest sum of q.

    Ties go to the form that occurs first in the corpus.
    """
    n_forms = len(forms.lower_forms)
    groups = group_entries(words.feature, forms.lower[words.word], words.q, n_forms)
    best = top_per_group(groups.feature, groups.sum_q, top)
    form = groups.key[best]
    return {
        "index": groups.feature[best],
        "form": pa.array(forms.lower_forms, pa.string()).take(pa.array(form)),
        "n_active": groups.count[best],
        "n_words": np.bincount(forms.lower, minlength=n_forms)[form],
        "sum_q": groups.sum_q[best],
        "max_q": groups.max_q[best].astype(np.int32),
    }


def per_feature(operation: np.ufunc, values: NDArray[np.integer], indptr: Int64) -> Int64:
    """Reduce each feature's entries, (n_features,) int64; 0 for a feature that has none."""
    result = np.zeros(len(indptr) - 1, np.int64)
    alive = np.flatnonzero(np.diff(indptr))
    if len(alive):
        result[alive] = operation.reduceat(values, indptr[alive], dtype=np.int64)
    return result


def _check_range(max_q: Int64, n_active: Int64) -> None:
    if (max_q.astype(np.float64) ** 2 * n_active >= 2.0**63).any():
        raise BadInput(
            f"The strongest activation, {int(max_q.max()):,} units, is so far from the usual ones "
            "that sums of squares leave 64 bits; the SAE is broken or does not belong to this hook "
            "point."
        )


def _quantiles(block: Block, order: Int64) -> pa.Array:
    n_active = np.diff(block.indptr)
    alive = np.flatnonzero(n_active)
    # Ascending order statistic j is descending order statistic n - 1 - j.
    down = np.stack(
        [
            n_active[alive] - 1 - np.floor(p * (n_active[alive] - 1)).astype(np.int64)
            for p in QUANTILES
        ],
        axis=1,
    )
    values = block.q[order[block.indptr[alive][:, None] + down]]
    offsets = np.concatenate([[0], np.cumsum((n_active > 0) * len(QUANTILES))])
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(values.ravel().astype(np.int32))
    )
