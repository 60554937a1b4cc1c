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

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atlas.ingest.measuring.parts import Block
from atlas.ingest.measuring.segments import (
    Int64,
    maxima_per_segment,
    rank_in_segment,
    segment_starts,
    stable_order,
)
from atlas.ingest.text.contexts import Context

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
    context_last: NDArray[np.int32]
    """(n_tokens,) last token of it."""

    @classmethod
    def build(
        cls, document: NDArray[np.integer], position: NDArray[np.integer], context: int
    ) -> Layout:
        """From each token's document (ascending) and position in it."""
        n_tokens = len(document)
        n_documents = int(document[-1]) + 1 if n_tokens else 0
        first = np.arange(n_tokens, dtype=np.int32) - (position % context).astype(np.int32)
        ends = np.searchsorted(document, np.arange(n_documents), side="right").astype(np.int32)
        last = np.minimum(first + np.int32(context), ends[document]) - 1
        return cls(document.astype(np.int32), first, last.astype(np.int32))

    @classmethod
    def of_contexts(cls, document: NDArray[np.integer], contexts: Iterable[Context]) -> Layout:
        """From contexts of any lengths; a token in none of them is one of its own."""
        first = np.arange(len(document), dtype=np.int32)
        last = first.copy()
        for one in contexts:
            here = slice(one.first, one.first + len(one.ids))
            first[here], last[here] = here.start, here.stop - 1
        return cls(document.astype(np.int32), first, last)


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
    # Place of each entry when sorted by (feature, q desc, token asc).
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    context = layout.context_first[block.token]
    starts = segment_starts(block.feature, context)
    split = layout.document[block.token] & 1
    top = _top(block, starts, place, split)
    weaker, stratum = _strata(block, starts, context, place, split, top)

    entry = np.concatenate([top, weaker])
    stratum = np.concatenate([np.zeros(len(top), np.int64), stratum])
    # 'top', then from the strongest fifth down.
    section = np.where(stratum == 0, 0, STRATA + 1 - stratum)
    by_rank = np.lexsort((place[entry], section, block.feature[entry]))
    entry, stratum = entry[by_rank], stratum[by_rank]
    feature, token = block.feature[entry].astype(np.int64), block.token[entry]
    first = context[entry]
    return Examples(
        feature,
        rank_in_segment(segment_starts(feature), len(feature)) + 1,
        stratum,
        split[entry].astype(np.int64),
        token,
        block.q[entry],
        np.maximum(first, token - WINDOW),
        np.minimum(layout.context_last[token], token + WINDOW),
    )


def _first_maxima(values: NDArray[np.integer], starts: Int64) -> Int64:
    """Position of the first maximum of each segment, (n_segments,); segments begin at `starts`."""
    lengths = np.diff(starts, append=len(values))
    maximum = maxima_per_segment(values, starts)
    at_maximum = np.flatnonzero(values == np.repeat(maximum, lengths))
    segment = np.repeat(np.arange(len(starts)), lengths)[at_maximum]
    return at_maximum[segment_starts(segment)]


def _top(block: Block, starts: Int64, place: Int64, split: NDArray[np.int32]) -> Int64:
    """Entries of the stratum 'top'; `starts` are those of the (feature, context) segments."""
    peaks = _first_maxima(block.q, starts)
    side = block.feature[peaks].astype(np.int64) * 2 + split[peaks]
    order = stable_order(side, place[peaks])
    peaks, side = peaks[order], side[order]
    rank = rank_in_segment(segment_starts(side), len(side))
    n_side = np.bincount(side, minlength=2 * block.n_features)
    half = TOP // 2
    # Places that the other split leaves free.
    free = np.maximum(half - n_side.reshape(-1, 2)[:, ::-1].ravel(), 0)
    chosen: Int64 = peaks[rank < half + free[side]]
    return chosen


def _strata(
    block: Block,
    starts: Int64,
    context: NDArray[np.int32],
    place: Int64,
    split: NDArray[np.int32],
    top: Int64,
) -> tuple[Int64, Int64]:
    """Entries of the strata 'q1' … 'q5' and each one's stratum, 1 … 5."""
    stretch = context + (block.token - context) // STRETCH * STRETCH
    peaks = _first_maxima(block.q, segment_starts(block.feature, stretch))
    # A context that 'top' shows is not shown again.
    segments = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(block.q)))
    shown = np.zeros(len(starts), bool)
    shown[segments[top]] = True
    peaks = peaks[~shown[segments[peaks]]]

    # Rank among the feature's active tokens, strongest first; the strongest fifth is stratum 5.
    feature = block.feature[peaks]
    rank = place[peaks] - block.indptr[feature]
    stratum = STRATA - rank * STRATA // np.diff(block.indptr)[feature]
    # One peak per context: the one in the weakest stratum, for those are rare; the first of equals.
    weakest = _first_maxima(-stratum, segment_starts(segments[peaks]))
    peaks, feature, stratum = peaks[weakest], feature[weakest], stratum[weakest]

    cell = (feature.astype(np.int64) * (STRATA + 1) + stratum) * 2 + split[peaks]
    order = stable_order(cell, place[peaks])
    peaks, stratum, cell = peaks[order], stratum[order], cell[order]
    cells = segment_starts(cell)
    rank = rank_in_segment(cells, len(cell))
    n_cell = np.diff(cells, append=len(cell))
    size = np.repeat(n_cell, n_cell)
    wanted = PER_STRATUM // 2
    # Evenly spaced: the ranks floor((2 j + 1) size / (2 wanted)) for j = 0 … wanted - 1. So many
    # of these lie before a rank, and one is the rank itself if one more lies before the next.
    before = (rank * 2 * wanted + size - 1) // (2 * size)
    after = ((rank + 1) * 2 * wanted + size - 1) // (2 * size)
    chosen = (size <= wanted) | (after > before)
    return peaks[chosen], stratum[chosen]
