"""Where the boxes of a layered graph stand: few edges cross, and most are nearly level."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)
Edge = tuple[Key, Key, float]
"""From a box of one column to one of the next, and how much that it is short and level counts."""

_SWEEPS = 24
_ROUNDS = 12


def ordered(columns: Sequence[Sequence[Key]], edges: Sequence[Edge[Key]]) -> list[list[Key]]:
    """The columns' boxes from top to bottom, so that few edges cross.

    Each column in turn is sorted by the mean place of what its boxes are joined to in the column
    before, forth and back (Sugiyama, Tagawa and Toda 1981), and the best of all is kept; boxes
    that nothing tells apart keep their order.
    """
    best = now = [list(column) for column in columns]
    fewest = crossings(now, edges)
    before, after = _neighbours(edges)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        now = [list(column) for column in now]
        forth = sweep % 2 == 0
        joined = before if forth else after
        for i in range(1, len(now)) if forth else range(len(now) - 2, -1, -1):
            fixed = _shares(now[i - 1 if forth else i + 1])
            own = _shares(now[i])
            wanted = {
                key: _mean([(fixed[one], weight) for one, weight in joined[key]], own[key])
                for key in now[i]
            }
            now[i].sort(key=wanted.__getitem__)
        crossed = crossings(now, edges)
        if crossed < fewest:
            best, fewest = now, crossed
    return best


def crossings(columns: Sequence[Sequence[Key]], edges: Sequence[Edge[Key]]) -> int:
    """How many pairs of edges cross if the boxes stand in this order."""
    column = {key: i for i, keys in enumerate(columns) for key in keys}
    place = {key: i for keys in columns for i, key in enumerate(keys)}
    found = 0
    for i in range(len(columns) - 1):
        joined = [(place[a], place[b]) for a, b, _ in edges if column[a] == i]
        a, b = np.array(joined, dtype=np.int64).reshape(-1, 2).T
        found += int(np.sum(np.subtract.outer(a, a) * np.subtract.outer(b, b) < 0)) // 2
    return found


def levelled(
    columns: Sequence[Sequence[Key]],
    edges: Sequence[Edge[Key]],
    heights: Mapping[Key, float],
    ports: Mapping[Key, float],
    gap: float,
) -> dict[Key, float]:
    """How far down the tops of the boxes are, in the columns' order, so that edges are level.

    In each column in turn, the boxes are as near as they can be (by least squares) to the mean
    of what they are joined to; none is lower than the column that is highest needs.

    heights: of the boxes
    ports: how far below the top of a box its edges end
    gap: between two boxes at least
    """
    needed = [sum(heights[key] for key in keys) + gap * (len(keys) - 1) for keys in columns]
    height = max(needed)
    tops: dict[Key, float] = {}
    for keys, taken in zip(columns, needed, strict=True):
        top = (height - taken) / 2
        for key in keys:
            tops[key] = top
            top += heights[key] + gap
    before, after = _neighbours(edges)
    for round_ in range(_ROUNDS):
        for keys in columns if round_ % 2 else reversed(columns):
            wanted = [
                _mean(
                    [(tops[one] + ports[one], w) for one, w in (*before[key], *after[key])],
                    tops[key] + ports[key],
                )
                - ports[key]
                for key in keys
            ]
            # The room that is left decides; what the boxes themselves take is the same anyway.
            offsets = np.cumsum([0.0, *(heights[key] + gap for key in keys[:-1])])
            free = height - float(offsets[-1]) - heights[keys[-1]]
            found = np.clip(_ascending(np.array(wanted) - offsets), 0.0, max(free, 0.0)) + offsets
            tops.update(zip(keys, map(float, found), strict=True))
    return tops


def _ascending(wanted: np.ndarray) -> np.ndarray:
    """The ascending values nearest to some (by least squares): neighbours are pooled."""
    pools: list[tuple[float, int]] = []
    for value in wanted:
        mean, n = float(value), 1
        while pools and pools[-1][0] > mean:
            other, m = pools.pop()
            mean, n = (other * m + mean * n) / (m + n), m + n
        pools.append((mean, n))
    return np.repeat([mean for mean, _ in pools], [n for _, n in pools])


def _neighbours(
    edges: Sequence[Edge[Key]],
) -> tuple[Mapping[Key, list[tuple[Key, float]]], Mapping[Key, list[tuple[Key, float]]]]:
    """Of each box, those that it is joined to in the column before, and in the one after."""
    before: dict[Key, list[tuple[Key, float]]] = defaultdict(list)
    after: dict[Key, list[tuple[Key, float]]] = defaultdict(list)
    for a, b, weight in edges:
        before[b].append((a, weight))
        after[a].append((b, weight))
    return before, after


def _shares(keys: Sequence[Key]) -> dict[Key, float]:
    """Places in a column from 0 to 1, so that columns of several lengths can be compared."""
    return {key: (i + 0.5) / len(keys) for i, key in enumerate(keys)}


def _mean(weighted: Sequence[tuple[float, float]], otherwise: float) -> float:
    total = sum(weight for _, weight in weighted)
    return sum(x * weight for x, weight in weighted) / total if total > 0 else otherwise
