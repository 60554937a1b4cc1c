"""Which contexts to show for each feature: the strongest, and some from every fifth of its range.

A *peak* is the strongest active token of a feature in one context (of equal ones the first), so
that examples of a feature lie in different contexts. The stratum 'top' takes the ten strongest
peaks of either split, 'explain' and 'score', and where one split has fewer the other fills up to
twenty: the ten strongest of all are always among them. The strata 'q1' (weakest) to 'q5'
(strongest) cut the feature's active tokens, sorted by (q desc, token asc), into five runs of equal
length, and take a few evenly spaced peaks out of each. To have weak peaks of dense features too, a
stratum's peaks are those of stretches of `STRETCH` tokens, still one per context and never one of a
context that 'top' shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atlas.ingest.parts import Block
from atlas.ingest.segments import (
    Int64,
    maxima_per_segment,
    rank_in_segment,
    segment_starts,
    stable_order,
)

SPLIT = ("explain", "score")
"""Split of a document: SPLIT[document_id % 2]. Explanations are written from one, tested on the
other."""

TOP = 20
STRATA = 5
PER_STRATUM = 4
WINDOW = 24
"""Tokens shown on each side of the peak, as far as its context reaches."""

STRETCH = 32

STRATUM_NAMES = ("top", *(f"q{number}" for number in range(1, STRATA + 1)))


@dataclass(frozen=True)
class Layout:
    """Where documents and contexts lie in the token stream of the reference corpus."""

    document: NDArray[np.int32]
    """(n_tokens,) document of each token."""
    context_first: NDArray[np.int32]
    """(n_tokens,) first token of each token's context."""
    document_end: NDArray[np.int32]
    """(n_documents,) one past the last token of each document."""
    context: int
    """Tokens per context."""

    @classmethod
    def build(
        cls, document: NDArray[np.integer], position: NDArray[np.integer], context: int
    ) -> Layout:
        """From each token's document (ascending) and position in it."""
        n_tokens = len(document)
        n_documents = int(document[-1]) + 1 if n_tokens else 0
        first = np.arange(n_tokens, dtype=np.int32) - (position % context).astype(np.int32)
        ends = np.searchsorted(document, np.arange(n_documents), side="right")
        return cls(document.astype(np.int32), first, ends.astype(np.int32), context)


@dataclass(frozen=True)
class Examples:
    """Rows of the table `examples`, ordered by (feature, rank); all arrays (n,)."""

    feature: Int64
    """Number within the block."""
    rank: Int64
    """1, 2, … over all strata: 'top', then from the strongest fifth down."""
    stratum: Int64
    """Index into `STRATUM_NAMES`."""
    split: Int64
    """Index into `SPLIT`."""
    token: NDArray[np.int32]
    q: NDArray[np.int32]
    first_token: NDArray[np.int32]
    last_token: NDArray[np.int32]


def strength_order(block: Block) -> Int64:
    """Permutation (n,) of a block's entries by (feature, q desc, token asc)."""
    if len(block.q) == 0:
        return np.zeros(0, np.int64)
    return stable_order(block.feature, block.q.max() - block.q)


def choose_examples(block: Block, layout: Layout, order: Int64) -> Examples:
    """The examples of every feature of a block; `order` is its `strength_order`."""
    if len(block.q) == 0:
        none = np.zeros(0, np.int64)
        empty = np.zeros(0, np.int32)
        return Examples(none, none, none, none, empty, empty, empty, empty)
    context = layout.context_first[block.token]
    split = layout.document[block.token] & 1
    top = _top(block, order, context, split)
    entry, stratum = _strata(block, order, context, split, top)
    entry = np.concatenate([top, entry])
    stratum = np.concatenate([np.zeros(len(top), np.int64), stratum])

    feature = block.feature[entry].astype(np.int64)
    token, q = block.token[entry], block.q[entry]
    weakness = np.where(stratum == 0, 0, STRATA + 1 - stratum)
    by_rank = np.lexsort((token, -q, weakness, feature))
    entry, stratum, feature = entry[by_rank], stratum[by_rank], feature[by_rank]
    token, q = token[by_rank], q[by_rank]
    first = context[entry]
    last = np.minimum(first + layout.context, layout.document_end[layout.document[token]]) - 1
    return Examples(
        feature,
        rank_in_segment(segment_starts(feature), len(feature)) + 1,
        stratum,
        split[entry].astype(np.int64),
        token,
        q,
        np.maximum(first, token - WINDOW),
        np.minimum(last, token + WINDOW),
    )


def _peaks(block: Block, place: NDArray[np.integer]) -> Int64:
    """Entries (n_peaks,), ascending, that are the first maximum among equal (feature, place)."""
    starts = segment_starts(block.feature, place)
    maximum = maxima_per_segment(block.q, starts)
    lengths = np.diff(starts, append=len(block.q))
    at_maximum = np.flatnonzero(block.q == np.repeat(maximum, lengths))
    segment = np.repeat(np.arange(len(starts)), lengths)[at_maximum]
    return at_maximum[segment_starts(segment)]


def _top(block: Block, order: Int64, context: NDArray[np.int32], split: NDArray[np.int32]) -> Int64:
    """Entries of the stratum 'top', in no particular order."""
    is_peak = np.zeros(len(block.q), bool)
    is_peak[_peaks(block, context)] = True
    peaks = order[is_peak[order]]  # by (feature, q desc, token asc)
    side = block.feature[peaks].astype(np.int64) * 2 + split[peaks]
    n_side = np.bincount(side, minlength=2 * block.n_features)
    half = TOP // 2
    spare = np.maximum(half - n_side.reshape(-1, 2)[:, ::-1].ravel(), 0)
    by_side = stable_order(side)
    rank = np.empty(len(peaks), np.int64)
    rank[by_side] = rank_in_segment(segment_starts(side[by_side]), len(peaks))
    chosen: Int64 = peaks[rank < half + spare[side]]
    return chosen


def _strata(
    block: Block,
    order: Int64,
    context: NDArray[np.int32],
    split: NDArray[np.int32],
    top: Int64,
) -> tuple[Int64, Int64]:
    """Entries of the strata 'q1' … 'q5' and each one's stratum, 1 … 5."""
    n = len(block.q)
    n_active = np.diff(block.indptr)
    # Rank among the feature's active tokens, strongest first; the strongest fifth is stratum 5.
    fifth = np.empty(n, np.int8)
    rank = np.arange(n) - block.indptr[:-1][block.feature]
    fifth[order] = STRATA - rank * STRATA // n_active[block.feature]

    stretch = context.astype(np.int64) + (block.token - context) // STRETCH * STRETCH
    peaks = _peaks(block, stretch)
    in_top = np.zeros(n, bool)
    in_top[top] = True
    # A context that 'top' shows is not shown again.
    starts = segment_starts(block.feature, context)
    shown = np.logical_or.reduceat(in_top, starts)
    segment = np.repeat(np.arange(len(starts)), np.diff(starts, append=n))
    peaks = peaks[~shown[segment[peaks]]]

    # One peak per context: the one in the weakest stratum, for those are rare; the first of equals.
    by_context = peaks[stable_order(segment[peaks], fifth[peaks])]
    peaks = by_context[segment_starts(segment[by_context])]

    cell = (block.feature[peaks].astype(np.int64) * (STRATA + 1) + fifth[peaks]) * 2 + split[peaks]
    strength = np.empty(n, np.int64)
    strength[order] = np.arange(n)
    by_cell = np.lexsort((strength[peaks], cell))
    peaks, cell = peaks[by_cell], cell[by_cell]
    starts = segment_starts(cell)
    n_cell = np.diff(starts, append=len(cell))
    place = rank_in_segment(starts, len(cell))
    size = np.repeat(n_cell, n_cell)
    wanted = PER_STRATUM // 2
    # Evenly spaced: the places floor((2 j + 1) size / (2 wanted)) for j = 0 … wanted - 1. So many
    # of these lie before a place, and one is the place itself if one more lies before the next.
    before = (place * 2 * wanted + size - 1) // (2 * size)
    after = ((place + 1) * 2 * wanted + size - 1) // (2 * size)
    chosen = peaks[(size <= wanted) | (after > before)]
    return chosen, fifth[chosen].astype(np.int64)
