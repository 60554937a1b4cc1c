"""The k largest numbers of each row: what makes a TopK SAE sparse, and most of its time on a CPU.

`torch.topk` walks every row with a heap of (value, index) pairs. Here a row is cut into groups, of
which only those with the k largest maxima can hold one of the k largest numbers; and both choices,
of groups and then of numbers, sort integers that carry a value in their upper half and its place in
the lower one, which NumPy does by SIMD networks. Two to five times as fast, and exact.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_NETWORK = 128
"""Rows up to this long are sorted by one network of registers, several times faster per number."""


def k_largest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest positive numbers of each row, in no order: (value, index), each (n, k).

    x: float32 (n, width) without NaN; k ≤ width. value is float32; where a row has fewer than k
    positive numbers the rest are 0, at indices that mean nothing but are valid. index is int32.
    """
    if x.device.type != "cpu" or k > _NETWORK // 2:
        value, index = x.topk(k, dim=1, sorted=False)
        return value.relu_(), index.int()
    n, width = x.shape
    # Both choices together look at width / size + size * k numbers: least at this size.
    size = 2 ** round(math.log2(math.sqrt(width / k)))
    if size == 1:
        value, index = _top(_keys(x), k)
        return value.relu_(), index
    n_groups = width // size
    grouped = x[:, : size * n_groups].reshape(n, size, n_groups)
    _, group = _top(_keys(grouped.amax(1)), k)
    candidates = grouped.gather(2, group.long().unsqueeze(1).expand(n, size, k)).flatten(1)
    rest = x[:, size * n_groups :]
    value, place = _top(_keys(torch.cat([candidates, rest], 1) if rest.numel() else candidates), k)
    # Candidate `place` is member place // k of the group that is place % k in `group`.
    index = group.gather(1, (place % k).long()).add_(
        place.div(k, rounding_mode="floor"), alpha=n_groups
    )
    if rest.numel():
        n_candidates = candidates.shape[1]
        index = torch.where(place < n_candidates, index, place + (size * n_groups - n_candidates))
    return value.relu_(), index


def _keys(x: Tensor) -> Tensor:
    """int64 (n, m) that sort as the positive numbers of x (n, m) do; below them all others.

    The bits of a float above 0 are an integer that grows with it, and of one below 0 a negative
    integer. In memory the lower half of an int64 comes first.
    """
    keys = torch.empty((*x.shape, 2), dtype=torch.int32)
    keys[..., 0] = torch.arange(x.shape[1], dtype=torch.int32)
    keys[..., 1] = x.view(torch.int32)
    return keys.view(torch.int64).squeeze(2)


def _top(keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(value, place), each (n, k), of the k largest keys of each row (n, m). Destroys `keys`."""
    n = len(keys)
    while keys.shape[1] > _NETWORK:
        keys = F.pad(keys, (0, -keys.shape[1] % _NETWORK), value=torch.iinfo(torch.int64).min)
        keys = keys.view(-1, _NETWORK)
        keys.numpy().sort(axis=1)
        keys = keys[:, -k:].reshape(n, -1)
    keys.numpy().sort(axis=1)
    halves = keys[:, -k:].contiguous().view(torch.int32).view(n, k, 2)
    return halves[..., 1].contiguous().view(torch.float32), halves[..., 0].contiguous()
