"""Boolean combinations of features, counted exactly: how often true, and how often with another.

With N(S) the units on which all features of a set S are active, a combination of up to three inputs
is true on a sum of such numbers (inclusion and exclusion):

    and         N(all)
    or          Σ over non-empty S of (−1)^(|S| + 1)·N(S)
    and_not     Σ over S among all inputs but the first of (−1)^|S|·N(first and S)

and the same sums of NJ(S), the units on which the output is active as well, tell on how many of
them the output is. A set is a number whose bit i stands for input i.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atlas.compare.activity import Activity

KINDS = ("and", "or", "and_not")

Longs = NDArray[np.int64]
Reals = NDArray[np.float64]
Count = Callable[[NDArray[np.integer]], Longs]
"""On how many units all features of each row (n, k) are active: (n,), or (n, n_parts)."""
Counts = dict[int, Longs]
"""N(S) or NJ(S) by the set's number: each (n,), or (n, n_parts)."""

_BLOCKS_PER_THREAD = 8
_FREQUENT = 64
"""A feature active on more than one in as many units is kept as bits."""


class Postings:
    """Where the features of two SAEs are active; those of B are numbered on from A's last."""

    def __init__(self, a: Activity, b: Activity) -> None:
        from atlas.lineage import gate_loops

        self.n_units = a.n_units
        self.first_of_b = a.d_sae
        self.indptr = np.concatenate([a.indptr, a.indptr[-1] + b.indptr[1:]])
        self.unit = np.concatenate([a.unit, b.unit])
        self.n_active: Longs = np.diff(self.indptr)
        # The frequent ones as bits too: at most twice the memory of the list of their units.
        frequent = self.n_active * _FREQUENT > self.n_units
        self.slot = np.where(frequent, np.cumsum(frequent) - 1, -1).astype(np.int32)
        self.bits = np.zeros((int(frequent.sum()), (self.n_units + 63) // 64), np.uint64)
        gate_loops.mark(self.slot, self.indptr, self.unit, self.bits)

    def common(self, sets: NDArray[np.integer]) -> Longs:
        """(n,): on how many units all features of each row of `sets` (n, k) are active."""
        from atlas.lineage import gate_loops

        out: Longs = self.n_active[sets[:, 0]]
        if sets.shape[1] > 1:
            self._count(gate_loops.common, sets, out)
        return out

    def common_by_part(
        self, sets: NDArray[np.integer], part: NDArray[np.int32], n_parts: int
    ) -> Longs:
        """(n, n_parts): the same on the units of each part; part (n_units,) tells a unit's."""
        from atlas.lineage import gate_loops

        out = np.zeros((len(sets), n_parts), np.int64)
        self._count(gate_loops.common_by_part, sets, out, part)
        return out

    def _count(
        self, loop: Callable[..., None], sets: NDArray[np.integer], out: Longs, *given: Any
    ) -> None:
        """Run a loop over all sets, in blocks on all cores."""
        threads = os.cpu_count() or 1
        edges = np.linspace(0, len(sets), threads * _BLOCKS_PER_THREAD + 1).astype(np.int64)
        arrays = (self.indptr, self.unit, self.slot, self.bits, *given, sets, out)
        with ThreadPoolExecutor(threads) as pool:
            blocks = [
                pool.submit(loop, first, last, *arrays)
                for first, last in itertools.pairwise(edges)
                if last > first
            ]
            for block in blocks:
                block.result()


class Truth(NamedTuple):
    """On how many units gates are true, and their output is active; each also without one input."""

    n_units: int
    n_gate: Longs
    """(n,)"""
    n_output: Longs
    n_both: Longs
    n_without: Longs
    """(n, k): units on which the gate without input i is true."""
    n_both_without: Longs
    """(n, k): those of them on which the output is active."""
    covers: bool
    """Whether inputs widen the gate (or), so that what counts is the share of the output."""

    @property
    def sufficiency(self) -> Reals:
        """(n,): P(output | gate); 0 where the gate is never true."""
        return _share(self.n_both, self.n_gate)

    @property
    def necessity(self) -> Reals:
        """(n,): P(gate | output); 0 where the output is never active."""
        return _share(self.n_both, self.n_output)

    @property
    def jaccard(self) -> Reals:
        """(n,): of the units on which the gate is true or the output active, those with both."""
        return _share(self.n_both, self.n_gate + self.n_output - self.n_both)

    @property
    def lifts(self) -> Reals:
        """(n, k): by how much each input raises the share that it is there to raise.

        P(output | gate) of and, and_not, P(gate | output) of or, over the same of the gate without
        the input; infinite where that is 0.
        """
        output = self.n_output[:, None]
        before = _share(self.n_both_without, output if self.covers else self.n_without)
        after = (self.necessity if self.covers else self.sufficiency)[:, None]
        rise: Reals = np.where(before > 0, after / np.where(before > 0, before, 1.0), np.inf)
        rise[np.broadcast_to(after == 0, rise.shape)] = 0.0
        return rise


class TruthByPart(NamedTuple):
    """What `Truth` tells, apart for each part of the units."""

    n_units: Longs
    """(n_parts,)"""
    n_gate: Longs
    """(n, n_parts)"""
    n_output: Longs
    n_both: Longs
    n_without: Longs
    """(n, k, n_parts)"""
    n_both_without: Longs
    covers: bool


def outputs_covered(
    postings: Postings, kind: str, inputs: NDArray[np.integer], output: NDArray[np.integer]
) -> Longs:
    """(n,): units on which each gate is true and its output active; as `truth`, but cheaper."""
    full = (1 << inputs.shape[1]) - 1
    needed = {"and": [full], "or": range(1, full + 1), "and_not": range(1, full + 1, 2)}[kind]
    joint = _sets(partial(_each_once, postings), inputs, postings.first_of_b + output, needed)
    return _true(kind, joint, full)


def truth(
    postings: Postings, kind: str, inputs: NDArray[np.integer], output: NDArray[np.integer]
) -> Truth:
    """How often gates of one kind are true.

    inputs: (n, k), features of A, of an and_not the one first that must be active.
    output: (n,), features of B, numbered from 0.
    """
    units = np.int64(postings.n_units)
    columns = _columns(partial(_each_once, postings), units, postings, kind, inputs, output)
    return Truth(postings.n_units, *columns, kind == "or")


def truth_by_part(
    postings: Postings,
    part: NDArray[np.int32],
    kind: str,
    inputs: NDArray[np.integer],
    output: NDArray[np.integer],
) -> TruthByPart:
    """The same for each part of the units: part (n_units,) holds 0, 1, …, n_parts − 1."""
    units = np.bincount(part)

    def count(sets: NDArray[np.integer]) -> Longs:
        return postings.common_by_part(sets, part, len(units))

    columns = _columns(count, units, postings, kind, inputs, output)
    return TruthByPart(units, *columns, kind == "or")


def _columns(
    count: Count,
    units: Longs | np.int64,
    postings: Postings,
    kind: str,
    inputs: NDArray[np.integer],
    output: NDArray[np.integer],
) -> tuple[Longs, Longs, Longs, Longs, Longs]:
    """n_gate, n_output, n_both, n_without, n_both_without, by a way to count."""
    k = inputs.shape[1]
    alone = _sets(count, inputs, None)
    alone[0] = np.full_like(alone[1], units)
    joint = _sets(count, inputs, postings.first_of_b + output)
    full = (1 << k) - 1
    without = [full ^ (1 << i) for i in range(k)]
    return (
        _true(kind, alone, full),
        joint[0],
        _true(kind, joint, full),
        np.stack([_true(kind, alone, kept) for kept in without], axis=1),
        np.stack([_true(kind, joint, kept) for kept in without], axis=1),
    )


def _sets(
    count: Count,
    inputs: NDArray[np.integer],
    output: NDArray[np.integer] | None,
    needed: Iterable[int] | None = None,
) -> Counts:
    """N(S) of every set S of the inputs but the empty one, or NJ(S) of every set, or those needed.

    output: (n,), numbered on from A's last.
    """
    k = inputs.shape[1]
    counts = {}
    for bits in needed or range(1 if output is None else 0, 1 << k):
        columns = [inputs[:, i] for i in range(k) if bits >> i & 1]
        if output is not None:
            columns.append(output)
        counts[bits] = count(np.stack(columns, axis=1))
    return counts


def _each_once(postings: Postings, sets: NDArray[np.integer]) -> Longs:
    """As `postings.common`, of sets many of which are the same: gates share most of theirs."""
    d = len(postings.n_active)
    if not 1 < sets.shape[1] < 4 or d > 2_000_000:  # alone, or all that makes a gate; or no number
        return postings.common(sets)
    number = np.zeros(len(sets), np.int64)
    for column in sets.T:
        number = number * d + column
    _, first, place = np.unique(number, return_index=True, return_inverse=True)
    return postings.common(sets[first])[place]


def _true(kind: str, counts: Counts, inputs: int) -> Longs:
    """(n, …): units on which the gate of these inputs, given as bits, is true."""
    if kind == "and":
        return counts[inputs]
    if kind == "or":
        return _any(counts, 0, inputs)
    first = inputs & 1  # without it, only that no other one is active is asked for
    others = inputs & ~1
    return counts[first] - _any(counts, first, others)


def _any(counts: Counts, always: int, inputs: int) -> Longs:
    """(n, …): units on which `always` and at least one of `inputs` are active."""
    total = np.zeros_like(next(iter(counts.values())))
    for bits in _subsets(inputs):
        total += (-1) ** (bits.bit_count() + 1) * counts[always | bits]
    return total


def _subsets(bits: int) -> Iterator[int]:
    """Every set but the empty one within a set."""
    one = bits
    while one:
        yield one
        one = (one - 1) & bits


def _share(part: Longs, whole: Longs) -> Reals:
    out: Reals = np.zeros(part.shape)
    np.divide(part, whole, out=out, where=whole > 0)
    return out
