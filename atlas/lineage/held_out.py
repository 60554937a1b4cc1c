"""Tests of gates on held-out documents, each of which counts as one observation.

A text has its subject, and features fire in runs: units of one document are not independent, but
documents are. What a gate claims is written as a sum over them, of expectation 0 if the claim is
empty,

    an input raises no share    Σ (y − mean y)·(x − mean x) over the units on which it decides
    no gain over a feature      Σ (1 + J)·(both − both_single) − J·(gate − single)

(y: output active, x: gate true; J: the Jaccard index of both tellings taken together). Every
document's part may then as well have the other sign: Hemerik, Goeman & Finos 2020, doi
10.1111/rssb.12369. With random signs, a sum of z times the root of the parts' summed squares has a
chance of at most 3.18·P(N(0, 1) ≥ z), however few or unequal they are: Bentkus & Dzindzalieta 2015,
doi 10.3150/14-BEJ603. That bound is p: no draws, and never too small for the signs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from atlas.lineage.boolean import Postings, TruthByPart, truth_by_part

MOST_PARTS = 1000
"""Where there are more documents, neighbouring ones are one observation: enough for any p."""

_COUNTS_AT_ONCE = 1 << 23
"""Gates tested together: 64 MB of each of some ten counts."""

Longs = NDArray[np.int64]
Reals = NDArray[np.float64]
Parts = NDArray[np.int32]


def parts_of(document: NDArray[np.integer]) -> Parts:
    """(n_units,): the observation that each unit belongs to, 0, 1, …, given its document."""
    names, number = np.unique(document, return_inverse=True)
    n = max(len(names), 1)
    parts: Parts = (number * min(n, MOST_PARTS) // n).astype(np.int32)
    return parts


def chances(
    postings: Postings, part: Parts, kind: str, inputs: Longs, output: Longs, single: Longs
) -> Reals:
    """(n,): p of gates of one kind, the largest of their claims', as all have to be true.

    Claims are that every input raises the share that it is there to raise, and that the gate tells
    the output better than one feature does, by the Jaccard index.

    part: (n_units,) of `parts_of`; inputs (n, k) and single (n,), features of A, or −1 for none;
    output (n,), features of B.
    """
    n, k = inputs.shape
    p = np.ones(n)
    if not len(part):
        return p
    for few in _portions(n, (1 << k) * (int(part.max()) + 1)):
        gates = truth_by_part(postings, part, kind, inputs[few], output[few])
        alone = np.maximum(single[few], 0)[:, None]
        one = truth_by_part(postings, part, "and", alone, output[few])
        there = (single[few] >= 0)[:, None]
        sums = np.concatenate(
            [_rises(gates), _gain(gates, there * one.n_gate, there * one.n_both)[:, None]], axis=1
        )
        p[few] = sign_flip_bound(sums).max(axis=1)
    return p


def sign_flip_bound(parts: Reals) -> Reals:
    """Upper bound of the chance that Σ parts is as large if each part's sign is random.

    (…, n_parts) to (…,); 1 where the sum is not positive.
    """
    from scipy.special import ndtr

    total, size = parts.sum(axis=-1), np.sqrt(np.square(parts).sum(axis=-1))
    z = np.divide(total, size, out=np.zeros_like(total), where=size > 0)
    constant = 0.25 / ndtr(-np.sqrt(2.0))  # two equal parts of the same sign: exactly 1/4
    bound: Reals = np.minimum(constant * ndtr(-z), 1.0)
    return bound


def _rises(gates: TruthByPart) -> Reals:
    """(n, k, n_parts): what each part says for the association of output and input i."""
    drawn = np.broadcast_to(gates.n_gate[:, None], gates.n_without.shape)
    hits = np.broadcast_to(gates.n_both[:, None], gates.n_without.shape)
    total, marked = gates.n_without, gates.n_both_without
    if gates.covers:  # it decides where the gate is not true without it
        drawn, hits = drawn - total, hits - marked
        total, marked = gates.n_units - total, gates.n_output[:, None] - marked
    n_decided = np.maximum(total.sum(axis=-1, keepdims=True), 1)
    mean_x = drawn.sum(axis=-1, keepdims=True) / n_decided
    mean_y = marked.sum(axis=-1, keepdims=True) / n_decided
    rises: Reals = hits - mean_y * drawn - mean_x * (marked - mean_y * total)
    return rises


def _gain(gates: TruthByPart, n_single: Longs, n_both_single: Longs) -> Reals:
    """(n, n_parts): what each part says for the gate's Jaccard index being the higher one."""
    n_both, n_gate = gates.n_both + n_both_single, gates.n_gate + n_single
    n_either = (n_gate + 2 * gates.n_output - n_both).sum(axis=-1, keepdims=True)
    jaccard = n_both.sum(axis=-1, keepdims=True) / np.maximum(n_either, 1)
    more, wider = gates.n_both - n_both_single, gates.n_gate - n_single
    gain: Reals = (1 + jaccard) * more - jaccard * wider
    return gain


def _portions(n: int, each: int) -> Iterator[slice]:
    step = max(1, _COUNTS_AT_ONCE // each)
    for first in range(0, n, step):
        yield slice(first, first + step)
