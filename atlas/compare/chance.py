"""How likely a pair's correlation is by chance: the null of unrelated, equally rare features.

Among thousands of candidates the best correlation is high even if nothing is related, and the
higher the rarer a feature is. So B's documents are shifted against A's, round the end, by random
numbers of documents, and each document's units by a random number of units, round its end. This
breaks every relation and keeps each feature's rate, its strengths and its memory: activations come
in runs, and in documents of one subject. (A shift of all units at once would split the documents:
features that last through them would meet more evenly than by chance, and had too small a p.)
Under each shift features of A get their best partners by the same rules as the pairs did: all of
them or, of many, one of each group of features that are nearest in rate. What features nearest in
rate get, over all shifts, is a pair's null.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from atlas.compare.activity import Activity
from atlas.compare.nulls import benjamini_hochberg
from atlas.compare.products import best_partners
from atlas.progress import Progress

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Reals = NDArray[np.float64]

_ALIKE = 50
"""Groups nearest in rate whose nulls stand behind each p: with 20 shifts, p is 0.001 at least."""

_PER_STRIDE = 400
_LONGEST_STRIDE = 16
"""Features of a group are one for each `_PER_STRIDE` there are, but no more than `_LONGEST_STRIDE`:
where there are many, a pair's null is of an eighth of all features at most."""

_MARGIN = 0.05
"""Least shift, as a share of what is shifted: neighbouring documents may be of one subject."""

_PAIRS_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Groups:
    """A's features that could be paired, in groups of neighbours by rate."""

    by_rate: Rows
    """(n,): the features, the rarest first."""
    group: Rows
    """(d_a,): the group that a feature is in; 0 for those that could not be paired."""
    stride: int
    """Features in a group; fewer in the last one."""

    def __len__(self) -> int:
        return -(-len(self.by_rate) // self.stride)

    def one_of_each(self, number: int) -> Rows:
        """(len(self),): a feature of each group, another one for each `number` below the stride."""
        at = np.arange(0, len(self.by_rate), self.stride) + number % self.stride
        return self.by_rate[np.minimum(at, len(self.by_rate) - 1)]


def groups_by_rate(n_active: Rows, take: Mask) -> Groups:
    """The groups of the features `take` (d_a,), by the units on which each is active, (d_a,)."""
    (taken,) = take.nonzero()
    by_rate = taken[np.argsort(n_active[taken], kind="stable")]
    stride = min(max(len(by_rate) // _PER_STRIDE, 1), _LONGEST_STRIDE)
    group = np.zeros(len(take), np.int64)
    group[by_rate] = np.arange(len(by_rate)) // stride
    return Groups(by_rate, group, stride)


def null_best(
    a: Activity,
    b: Activity,
    document: Rows,
    min_joint: int,
    groups: Groups,
    take_b: Mask,
    shifts: int,
    seed: int,
    progress: Progress,
) -> Reals:
    """(shifts, groups): r of the best partner of one A-feature a group under each shift of B.

    0 if it has none. document: (n_units,), ascending: the document of each unit.
    """
    rng = np.random.default_rng(seed)
    found = np.zeros((shifts, len(groups)))
    if not len(groups):
        return found
    with progress.task("chance of pairs", shifts, "shifts") as task:
        for number, row in enumerate(found):
            asked = groups.one_of_each(number)
            take_a = np.zeros(a.d_sae, bool)
            take_a[asked] = True
            best = best_partners(
                a, b, min_joint, take_a=take_a, take_b=take_b, meets=shifted(document, rng)
            )
            row[:] = np.nan_to_num(best.r_a[asked])
            task.advance()
    return found


def shifted(document: Rows, rng: np.random.Generator) -> Rows:
    """(n_units,): the unit of B that each unit of A meets under one random shift.

    Each document meets another, from a random unit on, which is repeated where it is the shorter
    one. A single document is shifted against itself.
    """
    _, first, length = np.unique(document, return_index=True, return_counts=True)
    n = len(first)
    if n > 1:
        other = (np.arange(n) + _offset(n, rng)) % n
        start = rng.integers(0, length[other])
    else:
        other, start = np.zeros(1, np.int64), np.array([_offset(len(document), rng)])
    of = np.repeat(np.arange(n), length)
    position = np.arange(len(document)) - first[of]
    return first[other][of] + (position + start[of]) % length[other][of]


def _offset(n: int, rng: np.random.Generator) -> int:
    """Of a shift of n things round the end; 0 only where there is but one."""
    low = max(round(_MARGIN * n), 1)
    return int(rng.integers(low, max(n - low, low), endpoint=True))


def p_values(nulls: Reals, groups: Groups, feature: Rows, r: Reals) -> Reals:
    """(n,): (1 + nulls ≥ r) / (1 + nulls) for pairs of A's features `feature` with correlations r.

    The nulls of a pair are those of the groups nearest in rate, its own among them.

    nulls: (shifts, groups), as from `null_best`.
    """
    shifts = len(nulls)
    if not shifts:
        return np.full(len(r), np.nan)
    width = min(_ALIKE, len(groups))
    windows = sliding_window_view(nulls.T, width, axis=0)  # (·, shifts, width)
    p = np.empty(len(r))
    for begin in range(0, len(r), _PAIRS_AT_ONCE):
        some = slice(begin, begin + _PAIRS_AT_ONCE)
        first = np.clip(groups.group[feature[some]] - width // 2, 0, len(groups) - width)
        reached = (windows[first] >= r[some, None, None]).sum(axis=(1, 2))
        p[some] = (1 + reached) / (1 + shifts * width)
    return p


def q_values(p: Reals, n_tests: int) -> Reals:
    """The p of pairs after Benjamini and Hochberg, where they are what `n_tests` searches found.

    A feature without a partner was searched for one too: its p is 1. To correct for the pairs
    alone would take the search for granted and find too much.
    """
    everything = np.concatenate([p, np.ones(max(n_tests - len(p), 0))])
    return benjamini_hochberg(everything)[: len(p)]
