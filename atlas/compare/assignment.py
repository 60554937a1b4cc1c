"""One-to-one pairs with the largest sum of gains, exactly, over sparse candidates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atlas.compare.activity import Activity
from atlas.compare.products import Candidates, candidates
from atlas.progress import Progress

Rows = NDArray[np.int64]

_CANDIDATES = 2_000_000
"""Pairs that one assignment considers, which bounds its memory (some 100 bytes each) and time."""


def assign(a: Rows, b: Rows, gain: NDArray[np.float64]) -> Rows:
    """Which of the candidate pairs (a[c], b[c]) to take: indices c, ascending.

    No feature is taken twice, and the sum of the gains, all > 0, is the largest there is. A feature
    may stay alone: each row has a column of its own that gains nothing. Solved as the sparse linear
    assignment problem (Jonker and Volgenant 1987; SciPy's LAPJVsp).
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    if not len(a):
        return np.empty(0, np.int64)
    rows, row = np.unique(a, return_inverse=True)
    columns, column = np.unique(b, return_inverse=True)
    alone = np.arange(len(rows))
    # A cost must not be 0, which a sparse matrix does not hold; a constant more changes nothing.
    nothing = 2.0 * gain.max()
    costs = csr_array(
        (
            np.concatenate([nothing - gain, np.full(len(rows), nothing)]),
            (np.concatenate([row, alone]), np.concatenate([column, len(columns) + alone])),
        ),
        shape=(len(rows), len(columns) + len(rows)),
    )
    taken_row, taken_column = min_weight_full_bipartite_matching(costs)
    paired = taken_column < len(columns)
    taken = taken_row[paired].astype(np.int64) * len(columns) + taken_column[paired]
    return np.flatnonzero(np.isin(row.astype(np.int64) * len(columns) + column, taken))


def best_assignment(
    a: Activity,
    b: Activity,
    min_joint: int,
    take_a: NDArray[np.bool_],
    take_b: NDArray[np.bool_],
    progress: Progress,
) -> tuple[Rows, Rows]:
    """One-to-one pairs with the largest sum of r, each of r > 0 and `min_joint` units in common.

    Exact as long as no feature has more than `_CANDIDATES` / d candidates, which is never so up to
    1,400 features a side; of more, the strongest ones of either side are considered, and that is
    told.
    """
    most = -(-_CANDIDATES // max(a.d_sae, b.d_sae))
    found = candidates(a, b, min_joint, most, take_a=take_a, take_b=take_b)
    if not found.complete:
        progress.notice(
            f"Features with more than {most:,} possible partners are assigned among the strongest "
            f"{most:,}."
        )
        others = candidates(b, a, min_joint, most, take_a=take_b, take_b=take_a)
        found = _union(found, others, b.d_sae)
    taken = assign(found.a, found.b, found.r)
    return found.a[taken], found.b[taken]


def _union(found: Candidates, others: Candidates, d_b: int) -> Candidates:
    """All pairs of both; `others` has the sides the other way round."""
    a, b = np.concatenate([found.a, others.b]), np.concatenate([found.b, others.a])
    _, first = np.unique(a * d_b + b, return_index=True)
    return Candidates(a[first], b[first], np.concatenate([found.r, others.r])[first], False)
