"""Joint activity of all pairs of two SAEs' features, exact, from their sparse activations.

For every pair with enough units on which both are active: how many these are, on how many both are
strong, and Σ q_a·q_b. Every measure of how one feature goes with another follows from these and
from sums over each feature alone (sql/views/edges.sql). The cost is units × L0², the memory that of
the activations themselves plus a block of pairs: the product of two SAEs is never held.

All sums are integers, so a result depends neither on threads nor on device, and those of disjoint
units add up: `merge`.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atlas.compare.activity import Activity
from atlas.errors import BadInput

DEVICES = ("auto", "cpu", "cuda")

_BLOCKS_PER_THREAD = 8
_BLOCK_PAIRS = 1 << 22
"""Pairs that a block may keep at most: some 130 MB, of which only what is kept is ever touched."""
_UNITS_AT_ONCE = 1 << 16
"""Units whose rows are filled together: so many stay in a shared cache."""


class Joint(NamedTuple):
    """Pairs of features by A-, then by B-feature; features are numbers within their SAEs."""

    a: NDArray[np.int32]
    """(n,)"""
    b: NDArray[np.int32]
    n_both: NDArray[np.int64]
    """Units on which both are active."""
    n_both_strong: NDArray[np.int64]
    """Units on which both exceed a fifth of their largest activation."""
    sum_ab: NDArray[np.int64]
    """Σ q_a·q_b"""


class Rows(NamedTuple):
    """One SAE's activations by unit: of unit `start + u`, the entries row[u] … row[u + 1]."""

    row: NDArray[np.int64]
    """(n_units + 1,)"""
    feature: NDArray[Any]
    """(nnz,) uint16 where that is enough, else uint32; ascending within a unit."""
    value: NDArray[np.uint32]
    """(nnz,): q, and in the highest bit whether it is strong."""


def joint_activity(
    a: Activity,
    b: Activity,
    min_joint: int,
    *,
    peak_a: NDArray[np.int32] | None = None,
    peak_b: NDArray[np.int32] | None = None,
    units: tuple[int, int] | None = None,
    device: str = "auto",
    threads: int | None = None,
    report: Callable[[int], object] = lambda n_features: None,
) -> Iterator[Joint]:
    """All pairs with at least `min_joint` units in common, in blocks of ascending A-features.

    a, b: activations on the same units; with q < 2^31 and each feature's Σq² < 2^63, as in every
        atlas, no sum can overflow (Cauchy and Schwarz).
    peak_a, peak_b: (d_sae,), each feature's largest q, a fifth of which makes an activation a
        strong one; those of `a` and `b` unless given. Give those of the whole corpus where a and b
        are a part of it, or the parts will not add up.
    units: (first, last + 1) to count on; all unless given.
    device: 'cuda', 'cpu', or 'auto' for a GPU where there is one. The result is the same.
    threads: of the CPU; all cores unless given.
    report: told with each block how many features of A it was for.

    BadInput if the activations are on different units.
    """
    if a.n_units != b.n_units:
        raise BadInput(
            f"The activations are on {a.n_units:,} and on {b.n_units:,} units, which do not meet; "
            "take words where tokens differ."
        )
    if min_joint < 1:
        raise BadInput(f"At least {min_joint} units in common is no limit; say 1 or more.")
    start, stop = units or (0, a.n_units)
    peak_a = peaks(a) if peak_a is None else peak_a
    peak_b = peaks(b) if peak_b is None else peak_b
    threads = threads or os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        rows = rows_of(b, b.n_active >= min_joint, peak_b, start, stop, pool)
        if use_cuda(device):
            from atlas.lineage.joint_device import JointOnDevice

            device_run = JointOnDevice(a, rows, b.d_sae, min_joint, peak_a, start, stop, "cuda")
            for first, last in device_run.blocks():
                yield device_run(first, last)
                report(last - first)
            return
        run = partial(_block, a, rows, b.d_sae, min_joint, peak_a, start, stop)
        pending: deque[tuple[int, Future[Joint]]] = deque()
        for first, last in _blocks(a.n_active, b.d_sae, threads):
            pending.append((last - first, pool.submit(run, first, last)))
            if len(pending) > 2 * threads:  # what is done and not yet taken waits in memory
                yield from _taken(pending, report)
        while pending:
            yield from _taken(pending, report)


def _taken(
    pending: deque[tuple[int, Future[Joint]]], report: Callable[[int], object]
) -> Iterator[Joint]:
    """The oldest block, once it is done."""
    n_features, block = pending.popleft()
    yield block.result()
    report(n_features)


def merge(parts: Iterable[Joint], min_joint: int) -> Joint:
    """The pairs of several sets of units that do not overlap, of which each part counted one.

    The parts must hold every pair with a unit in common (min_joint 1): a pair that has too few in
    each part may have enough in all. `min_joint` limits what is returned.
    """
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.lexsort((columns[1], columns[0]))
    a, b, *sums = (column[order] for column in columns)
    begins = np.ones(len(a), bool)
    begins[1:] = (np.diff(a) != 0) | (np.diff(b) != 0)
    at = np.flatnonzero(begins)
    if not len(at):
        return Joint(a, b, *sums)
    both, strong, sum_ab = (np.add.reduceat(column, at) for column in sums)
    enough = both >= min_joint
    return Joint(a[at][enough], b[at][enough], both[enough], strong[enough], sum_ab[enough])


def peaks(activity: Activity) -> NDArray[np.int32]:
    """(d_sae,): each feature's largest q; 0 of a dead one."""
    found = np.zeros(activity.d_sae, np.int32)
    live = np.flatnonzero(activity.n_active)
    if len(live):
        found[live] = np.maximum.reduceat(activity.q, activity.indptr[live])
    return found


def strong_counts(activity: Activity, peak: NDArray[np.int32] | None = None) -> NDArray[np.int64]:
    """(d_sae,): units on which each feature exceeds a fifth of its largest activation."""
    from atlas.lineage import joint_loops

    peak = peaks(activity) if peak is None else peak
    n_strong = np.zeros(activity.d_sae, np.int64)
    joint_loops.count_strong(0, activity.d_sae, activity.indptr, activity.q, peak, n_strong)
    return n_strong


def rows_of(
    activity: Activity,
    keep: NDArray[np.bool_],
    peak: NDArray[np.int32],
    start: int,
    stop: int,
    pool: ThreadPoolExecutor,
) -> Rows:
    """The activations of the features `keep` (d_sae,) on units start … stop − 1, by unit."""
    from atlas.lineage import joint_loops

    edges = [*range(start, stop, _UNITS_AT_ONCE), stop]
    ranges = list(itertools.pairwise(edges))
    entries = (activity.indptr, activity.unit)
    place = np.zeros(stop - start + 1, np.int64)

    def count(first: int, last: int) -> None:
        joint_loops.count_active(first, last, start, *entries, keep, place[1:])

    list(pool.map(count, *zip(*ranges, strict=True)))
    row = np.cumsum(place)
    place[:] = row
    feature = np.empty(row[-1], np.uint16 if activity.d_sae < 1 << 16 else np.uint32)
    value = np.empty(row[-1], np.uint32)

    def fill(first: int, last: int) -> None:
        joint_loops.fill_rows(
            first, last, start, *entries, activity.q, peak, keep, place, feature, value
        )

    list(pool.map(fill, *zip(*ranges, strict=True)))
    return Rows(row, feature, value)


def use_cuda(device: str) -> bool:
    """Whether to compute on a GPU; BadInput where it is asked for and there is none."""
    if device not in DEVICES:
        raise BadInput(f"There is no device {device!r}; choose one of {', '.join(DEVICES)}.")
    if device == "cpu":
        return False
    import torch

    if torch.cuda.is_available():
        return True
    if device == "cuda":
        raise BadInput("PyTorch finds no CUDA device here; leave the device out, or say 'cpu'.")
    return False


def _blocks(n_active: NDArray[np.int64], d_b: int, threads: int) -> Iterator[tuple[int, int]]:
    """Ranges of A-features, of about equal work, none with room for more than `_BLOCK_PAIRS`."""
    before = np.cumsum(n_active)
    total = int(before[-1]) if len(before) else 0
    share = max(total // (threads * _BLOCKS_PER_THREAD), 1)
    widest = max(_BLOCK_PAIRS // max(d_b, 1), 1)
    first = 0
    while first < len(n_active):
        done = int(before[first - 1]) if first else 0
        last = int(np.searchsorted(before, done + share, side="left")) + 1
        last = min(last, first + widest, len(n_active))
        yield first, last
        first = last


def _block(
    a: Activity,
    rows: Rows,
    d_b: int,
    min_joint: int,
    peak_a: NDArray[np.int32],
    start: int,
    stop: int,
    first: int,
    last: int,
) -> Joint:
    """The pairs of A-features first … last − 1."""
    from atlas.lineage import joint_loops

    room = (last - first) * d_b
    ia, ib = np.empty(room, np.int32), np.empty(room, np.int32)
    n_both, n_both_strong, sum_ab = (np.empty(room, np.int64) for _ in range(3))
    n = joint_loops.joint_rows(
        first, last, start, stop, min_joint,
        a.indptr, a.unit, a.q, peak_a, a.n_active >= min_joint, *rows,
        np.zeros(-(-d_b // 8) * 8, np.uint8), np.zeros(d_b, rows.feature.dtype),
        np.empty(2 * d_b + 2, np.uint64), ia, ib, n_both, n_both_strong, sum_ab,
    )  # fmt: skip
    # Copies, as the arrays have room for every pair there might be.
    return Joint(
        ia[:n].copy(), ib[:n].copy(), n_both[:n].copy(), n_both_strong[:n].copy(), sum_ab[:n].copy()
    )
