"""Gates: features that fire where two or three features upstream do in a Boolean combination.

Balcells et al. (arXiv 2410.08869) call a feature an AND of two others if exactly these two are
nearly always active with it, an OR if it is with them; whether it fires where both are was not
asked. Here the combinations themselves are tried, on activations:

1.  On the even documents, candidates: inputs that could be part of a gate by what each does alone,
    of each output as many as MOST_INPUTS.
2.  Of every combination of them, on how many units it is true and with the output (`boolean`). A
    gate is found if P(output | gate) and P(gate | output) are high, every input raises the share
    that it is there to raise, and no single feature upstream tells the output nearly as well.
    No p is told of these documents: they chose, from thousands.
3.  On the odd documents, which had no say in any of this, all of it again, and p (`held_out`); q
    after Benjamini and Hochberg over all gates found: `confirmed`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atlas.compare.activity import Activity
from atlas.compare.nulls import benjamini_hochberg
from atlas.errors import BadInput
from atlas.lineage.boolean import KINDS, Postings, Truth, outputs_covered, truth
from atlas.lineage.held_out import chances, parts_of
from atlas.lineage.joint import Joint, joint_activity

MOST_INPUTS = {2: 24, 3: 12}
"""Candidate inputs of one output at most, by size of the gate: the ones that go with it most. 48
instead of 24 add 3 % at most to the gates of two between layers of two small language models."""
MAX_Q = 0.05
"""Of the gates confirmed, the share that may be so by luck."""

_AT_ONCE = 1 << 20
"""Gates tried together: some 100 MB of counts."""

Ints = NDArray[np.int64]
Reals = NDArray[np.float64]
Bools = NDArray[np.bool_]
_Block = list[NDArray[Any]]


@dataclass(frozen=True)
class GateSettings:
    """What a gate is."""

    kinds: tuple[str, ...] = KINDS
    n_inputs: int = 2
    """2 or 3: gates of as many inputs, and of fewer."""
    at_least: float = 0.8
    """P(output | gate) and P(gate | output) of a gate."""
    min_lift: float = 1.25
    """By how much every input must raise the share that it is there to raise."""
    min_gain: float = 0.02
    """The gate's Jaccard index must exceed the best single feature's by more. Of the gates of five
    real layers with looser limits, half had a gain with a standard error, over 357 texts, of .011
    to .015: what is smaller than .02 differs from one corpus to the next."""
    min_joint: int = 20
    """Units on which the gate is true and the output active."""
    above: float = 0.0
    """Share of a feature's maximum that it must exceed to be active; .2 is the paper's."""

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds:
            named = f"{unknown[0]!r} is no kind" if unknown else "No kind"
            raise BadInput(f"{named} of gate; kinds are {', '.join(KINDS)}.")
        if self.n_inputs not in MOST_INPUTS:
            raise BadInput(f"Gates have 2 or 3 inputs, not {self.n_inputs}.")
        if not 0 < self.at_least <= 1:
            raise BadInput(f"at_least is a share in (0, 1], not {self.at_least:g}.")
        if self.min_lift < 1:
            raise BadInput(f"min_lift is at least 1, not {self.min_lift:g}.")
        if not 0 <= self.min_gain < 1:
            raise BadInput(f"min_gain is a difference in [0, 1), not {self.min_gain:g}.")
        if self.min_joint < 1:
            raise BadInput(f"min_joint is at least 1, not {self.min_joint}.")
        if not 0 <= self.above < 1:
            raise BadInput(f"above is a share in [0, 1), not {self.above:g}.")


class Found(NamedTuple):
    """Gates of one kind and size, the best of an output by their Jaccard index first."""

    kind: str
    inputs: Ints
    """(n, 2 or 3), features of A; of an and_not first the one that must be active."""
    output: Ints
    """(n,), features of B"""
    single: Ints
    """(n,), the feature of A that alone tells the output best on the even documents; −1 if none."""
    even: Truth
    odd: Truth
    single_even: Reals
    """(n,), Jaccard index of that feature and the output."""
    single_odd: Reals
    p_odd: Reals
    """(n,), chance that the least certain of the gate's claims is luck, on the odd documents."""
    q_odd: Reals
    """(n,), p_odd after Benjamini and Hochberg over the gates of all kinds and sizes."""
    confirmed: Bools
    """Counts on the odd documents as well, by the same limits; and q_odd ≤ MAX_Q."""


class _Pairs(NamedTuple):
    """Pairs (input, output) by output, and how they go together on the even documents."""

    a: Ints
    b: Ints
    n_both: Ints


class _Marginals(NamedTuple):
    necessary: _Pairs
    """P(input | output) is high: of and, and_not."""
    sufficient: _Pairs
    """P(output | input) is high: of or."""
    single: Ints
    """(d_b,), the feature of A with the highest Jaccard index; −1 if none."""
    single_jaccard: Reals


def find_gates(
    a: Activity, b: Activity, document: Ints, settings: GateSettings | None = None
) -> list[Found]:
    """The gates of A's features among B's: one entry for each kind and size that was asked for.

    a, b: activations on the same units.
    document: (n_units,), the document of each unit: even ones choose, the others confirm.

    The cost is that of the joint activity of A with B and, for and_not, of A with itself, and a few
    firings' worth for every combination that is tried.
    """
    settings = settings or GateSettings()
    even = document % 2 == 0
    a, b = (_exceeding(side, settings.above) for side in (a, b))
    a_even, b_even = a.only(even), b.only(even)
    marginals = _marginals(a_even, b_even, settings)
    on_even, on_odd = Postings(a_even, b_even), Postings(a.only(~even), b.only(~even))
    part = parts_of(document[~even])
    found = []
    for kind, k in itertools.product(settings.kinds, range(2, settings.n_inputs + 1)):
        parts = [
            _passing(on_even, kind, inputs, output, marginals, settings)
            for inputs, output in _candidates(kind, k, a_even, b_even, marginals, settings)
        ]
        gates = _concatenated(parts, k)
        found.append(_held_out(on_even, on_odd, part, kind, *gates, marginals, settings))
    return _corrected(found)


def _exceeding(side: Activity, above: float) -> Activity:
    """The activations above a share of their feature's maximum."""
    if above == 0:
        return side
    peak = np.zeros(side.d_sae)
    firing = np.flatnonzero(side.n_active)
    if len(firing):
        peak[firing] = np.maximum.reduceat(side.q, side.indptr[firing])
    kept = side.q > above * np.repeat(peak, side.n_active)
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
    return Activity(side.n_units, before[side.indptr], side.unit[kept], side.q[kept])


# -- candidates ---------------------------------------------------------------------------------


def _marginals(a: Activity, b: Activity, settings: GateSettings) -> _Marginals:
    """What pairs alone tell. Whatever is left out here cannot be part of a gate as defined."""
    necessary: list[_Block] = []
    sufficient: list[_Block] = []
    single = np.full(b.d_sae, -1, np.int64)
    best = np.zeros(b.d_sae)
    for block in joint_activity(a, b, settings.min_joint):
        n_a, n_b = a.n_active[block.a], b.n_active[block.b]
        jaccard = block.n_both / (n_a + n_b - block.n_both)
        _improve(best, single, block, jaccard)
        of_b, of_a = block.n_both / n_b, block.n_both / n_a
        # P(gate | output) ≤ P(input | output) of and, and_not; that the output needs more than this
        # input leaves room for the others to raise P(output | gate), which is at most 1.
        keep = (of_b >= settings.at_least) & (of_a * settings.min_lift <= 1)
        necessary.append([column[keep] for column in (block.a, block.b, block.n_both)])
        keep = (of_a >= settings.at_least) & (of_b * settings.min_lift <= 1)
        sufficient.append([column[keep] for column in (block.a, block.b, block.n_both)])
    return _Marginals(_by_output(necessary), _by_output(sufficient), single, best)


def _improve(best: Reals, single: Ints, block: Joint, jaccard: Reals) -> None:
    """Each output's best single feature, given one more block; of equals the first."""
    (better,) = np.nonzero(jaccard > best[block.b])
    np.maximum.at(best, block.b[better], jaccard[better])
    better = better[jaccard[better] == best[block.b[better]]]
    single[block.b[better][::-1]] = block.a[better][::-1]


def _by_output(blocks: list[_Block]) -> _Pairs:
    columns = [np.concatenate(column).astype(np.int64) for column in zip(*blocks, strict=True)]
    a, b, n_both = columns or [np.zeros(0, np.int64)] * 3
    order = np.lexsort((a, b))
    return _Pairs(a[order], b[order], n_both[order])


def _candidates(
    kind: str, k: int, a: Activity, b: Activity, marginals: _Marginals, settings: GateSettings
) -> Iterator[tuple[Ints, Ints]]:
    """Inputs (n, k) and outputs (n,) of all gates to try, in parts."""
    if kind == "and_not":
        yield from _exceptions(k, a, b, marginals.necessary, settings)
        return
    pairs = marginals.necessary if kind == "and" else marginals.sufficient
    # What an input does alone, of what the others are there to raise.
    weight = pairs.n_both / (a.n_active[pairs.a] if kind == "and" else b.n_active[pairs.b])
    pairs = _strongest(pairs, pairs.b, weight, MOST_INPUTS[k])
    for rows, members in _combinations(pairs.b, k):
        yield pairs.a[members], pairs.b[rows]


def _exceptions(
    k: int, a: Activity, b: Activity, necessary: _Pairs, settings: GateSettings
) -> Iterator[tuple[Ints, Ints]]:
    """Gates of a necessary input without others, each active with it on enough of its units."""
    # P(output | gate) ≥ at_least leaves n_both / at_least units at most, and n_both only falls: one
    # exception alone takes the others away. Of two, each takes enough for its lift: as much as
    # min_lift − 1 of what is left, which is at least n_both.
    left = np.maximum(settings.min_joint, settings.at_least * b.n_active[necessary.b])
    each = (settings.min_lift - 1) * left
    if k == 2:
        each = a.n_active[necessary.a] - necessary.n_both / settings.at_least
    each = np.maximum(np.floor(each), settings.min_joint)
    least = np.full(a.d_sae, np.inf)
    np.minimum.at(least, necessary.a, each)
    wanted = np.isfinite(least)
    if not wanted.any():
        return
    blocks: list[_Block] = []
    for block in joint_activity(_only(a, wanted), a, settings.min_joint):
        keep = (block.n_both >= least[block.a]) & (block.a != block.b)
        # Sought by the first input, so in the place of the output.
        blocks.append([block.b[keep], block.a[keep], block.n_both[keep]])
    others = _by_output(blocks)
    start = np.searchsorted(others.b, necessary.a, side="left")
    n_others = np.searchsorted(others.b, necessary.a, side="right") - start
    for first, last in _portions(n_others):
        rows = np.repeat(np.arange(first, last), n_others[first:last])
        before = np.cumsum(n_others[first:last]) - n_others[first:last]
        at = np.arange(len(rows)) + np.repeat(start[first:last] - before, n_others[first:last])
        keep = others.n_both[at] >= each[rows]
        pairs = _Pairs(others.a[at[keep]], rows[keep], others.n_both[at[keep]])
        pairs = _strongest(pairs, pairs.b, pairs.n_both, MOST_INPUTS[k])
        for one, members in _combinations(pairs.b, k - 1):
            base = pairs.b[one]
            yield (
                np.column_stack([necessary.a[base], pairs.a[members]]),
                necessary.b[base],
            )


def _only(side: Activity, features: Bools) -> Activity:
    """The same features, all but some of which are never active."""
    kept = np.repeat(features, side.n_active)
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
    return Activity(side.n_units, before[side.indptr], side.unit[kept], side.q[kept])


def _portions(sizes: Ints) -> Iterator[tuple[int, int]]:
    """Ranges of rows whose sizes add up to no more than `_AT_ONCE`, or of a single row."""
    number = (np.cumsum(sizes) - sizes) // _AT_ONCE
    edges = np.flatnonzero(np.diff(number, prepend=-1, append=-1))
    yield from itertools.pairwise(edges.tolist())


def _strongest(pairs: _Pairs, group: Ints, weight: NDArray[Any], most: int) -> _Pairs:
    """Of each group, the pairs of the largest weights; of equals the first."""
    order = np.lexsort((pairs.a, -weight, group))
    group = group[order]
    rank = np.arange(len(group)) - np.searchsorted(group, group, side="left")
    order = np.sort(order[rank < most])
    return _Pairs(*(column[order] for column in pairs))


def _combinations(group: Ints, k: int) -> Iterator[tuple[Ints, Ints]]:
    """All k members of one group, for each ascending group: (first rows (n,), members (n, k))."""
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    sizes = np.diff(starts, append=len(group))
    for size in np.unique(sizes[sizes >= k]).tolist():
        chosen = np.array(list(itertools.combinations(range(size), k)))
        same = starts[sizes == size]
        step = max(1, _AT_ONCE // len(chosen))
        for at in range(0, len(same), step):
            members = (same[at : at + step, None, None] + chosen).reshape(-1, k)
            yield members[:, 0], members


# -- tests --------------------------------------------------------------------------------------


def _passing(
    postings: Postings,
    kind: str,
    inputs: Ints,
    output: Ints,
    marginals: _Marginals,
    settings: GateSettings,
) -> tuple[Ints, Ints]:
    """Of gates to try, those that meet the limits."""
    n_output = postings.n_active[postings.first_of_b + output]
    n_both = outputs_covered(postings, kind, inputs, output)
    keep = (n_both >= settings.min_joint) & (n_both >= settings.at_least * n_output)
    inputs, output = inputs[keep], output[keep]
    keep = _holds(truth(postings, kind, inputs, output), marginals.single_jaccard[output], settings)
    return inputs[keep], output[keep]


def _holds(gates: Truth, single_jaccard: Reals, settings: GateSettings) -> Bools:
    """Whether gates meet the limits."""
    return (
        (gates.n_both >= settings.min_joint)
        & (gates.sufficiency >= settings.at_least)
        & (gates.necessity >= settings.at_least)
        & (gates.lifts >= settings.min_lift).all(axis=1)
        & (gates.jaccard - single_jaccard > settings.min_gain)
    )


def _held_out(
    on_even: Postings,
    on_odd: Postings,
    part: NDArray[np.int32],
    kind: str,
    inputs: Ints,
    output: Ints,
    marginals: _Marginals,
    settings: GateSettings,
) -> Found:
    """Gates of one kind and size on both halves, confirmed as far as p has no part in it."""
    even = truth(on_even, kind, inputs, output)
    # Best gates of each output first; then by features, so that there is one order.
    order = np.lexsort((*inputs.T[::-1], -even.jaccard, output))
    inputs, output = inputs[order], output[order]
    even, odd = (truth(postings, kind, inputs, output) for postings in (on_even, on_odd))
    single = marginals.single[output]
    single_odd = truth(on_odd, "and", np.maximum(single, 0)[:, None], output).jaccard
    single_odd[single < 0] = 0.0
    return Found(
        kind,
        inputs,
        output,
        single,
        even,
        odd,
        marginals.single_jaccard[output],
        single_odd,
        chances(on_odd, part, kind, inputs, output, single),
        np.ones(len(output)),
        _holds(odd, single_odd, settings),
    )


def _corrected(found: list[Found]) -> list[Found]:
    """With q_odd over all of them, which confirms or not."""
    q = benjamini_hochberg(np.concatenate([gates.p_odd for gates in found]))
    edges = np.cumsum([len(gates.p_odd) for gates in found])[:-1]
    return [
        gates._replace(q_odd=mine, confirmed=gates.confirmed & (mine <= MAX_Q))
        for gates, mine in zip(found, np.split(q, edges), strict=True)
    ]


def _concatenated(parts: list[tuple[Ints, Ints]], k: int) -> tuple[Ints, Ints]:
    empty = (np.zeros((0, k), np.int64), np.zeros(0, np.int64))
    inputs, output = zip(*parts, empty, strict=True)
    return np.concatenate(inputs), np.concatenate(output)
