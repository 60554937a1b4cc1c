"""The joint activity of two SAEs' features on a GPU: the same sums, by torch's scattered additions.

64-bit integers throughout, whose order of addition does not matter: equal to `joint_loops`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atlas.compare.activity import Activity
from atlas.lineage.joint import Joint, Rows
from atlas.lineage.joint_loops import STRONG

_CELLS = 1 << 25
"""Pairs of features summed at once, at 24 bytes each."""
_TERMS = 1 << 24
"""Pairs of entries multiplied at once, at some 50 bytes each."""


class JointOnDevice:
    """Joint activity of blocks of A-features with all of B, on a torch device."""

    def __init__(
        self,
        a: Activity,
        rows: Rows,
        d_b: int,
        min_joint: int,
        peak_a: NDArray[np.int32],
        start: int,
        stop: int,
        device: str,
    ) -> None:
        """rows: B's activations by unit, of units start … stop − 1."""
        self._a, self._d_b, self._min_joint, self._peak_a = a, d_b, min_joint, peak_a
        self._start, self._stop, self._device = start, stop, device
        self._row = torch.from_numpy(rows.row).to(device)
        self._feature = torch.from_numpy(rows.feature.astype(np.int32)).to(device)
        self._value = torch.from_numpy(rows.value.view(np.int32)).to(device)

    def blocks(self) -> list[tuple[int, int]]:
        """Ranges of A-features that fit at once."""
        height = max(_CELLS // max(self._d_b, 1), 1)
        firsts = range(0, self._a.d_sae, height)
        return [(first, min(first + height, self._a.d_sae)) for first in firsts]

    def __call__(self, first: int, last: int) -> Joint:
        """The pairs of A-features first … last − 1."""
        a, d_b = self._a, self._d_b
        span = slice(a.indptr[first], a.indptr[last])
        unit, q = a.unit[span], a.q[span]
        local = np.repeat(np.arange(last - first), a.n_active[first:last])
        strong = STRONG * q.astype(np.int64) > self._peak_a[first + local]
        inside = (unit >= self._start) & (unit < self._stop)
        entries = [
            torch.from_numpy(column[inside]).to(self._device)
            for column in (local, unit - np.int32(self._start), q, strong)
        ]
        sums = torch.zeros(3, (last - first) * d_b, dtype=torch.int64, device=self._device)
        _add(sums, entries, self._row, self._feature, self._value, d_b)
        (at,) = torch.nonzero(sums[0] >= self._min_joint, as_tuple=True)
        both, both_strong, sum_ab = (column[at].cpu().numpy() for column in sums)
        pair = at.cpu().numpy()
        return Joint(
            (first + pair // d_b).astype(np.int32),
            (pair % d_b).astype(np.int32),
            both,
            both_strong,
            sum_ab,
        )


def _add(
    sums: Tensor, entries: list[Tensor], row: Tensor, feature: Tensor, value: Tensor, d_b: int
) -> None:
    """Add n_both, n_both_strong and Σq_a·q_b (3, n_a·d_b) of all A-entries with their B-entries."""
    local, unit, q_a, strong_a = entries
    unit = unit.long()
    before = torch.cumsum(row[unit + 1] - row[unit], 0)
    done, total = 0, int(before[-1]) if len(before) else 0
    first = 0
    while done < total:
        wanted = torch.tensor(done + _TERMS, device=before.device)
        last = max(int(torch.searchsorted(before, wanted, right=True)), first + 1)
        chosen = slice(first, last)
        length = row[unit[chosen] + 1] - row[unit[chosen]]
        entry = torch.repeat_interleave(length)
        place = torch.arange(len(entry), device=entry.device)
        place += (row[unit[chosen]] - (before[chosen] - length - done))[entry]
        j, packed = feature[place].long(), value[place]
        cell = local[chosen][entry] * d_b + j
        q_b = (packed & 0x7FFFFFFF).long()
        both_strong = strong_a[chosen][entry] & (packed < 0)  # the highest bit is the sign's
        sums[0].scatter_add_(0, cell, torch.ones_like(cell))
        sums[1].scatter_add_(0, cell, both_strong.long())
        sums[2].scatter_add_(0, cell, q_a[chosen].long()[entry] * q_b)
        done, first = int(before[last - 1]), last
