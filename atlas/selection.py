"""The k largest numbers of each row: what makes a TopK SAE sparse, and most of its time on a CPU.

`torch.topk` walks every row with a heap of (value, index) pairs. Here a row is cut into groups, of
which only those with the k largest maxima can hold one of the k largest numbers; and both choices,
of groups and then of numbers, sort integers that carry a value in their upper half and its place in
the lower one, which NumPy does by SIMD networks. Two to five times as fast, and exact.
"""

from __future__ import annotations

import functools
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
    if x.device.type != "cpu" or k > _NETWORK // 2 or not len(x):
        value, index = x.topk(k, dim=1, sorted=False)
        return value.relu_(), index.int()
    n, width = x.shape
    # Both choices together look at width / size + size * k numbers: least at this size.
    size = 2 ** round(math.log2(math.sqrt(width / k)))
    if size == 1:
        return _value_and_place(_top(_keys(x, _places(width)), k))
    n_groups = width // size
    grouped = x[:, : size * n_groups].reshape(n, size, n_groups)
    group = _top(_keys(grouped.amax(1), _places(n_groups)), k).bitwise_and_(_LOWER)
    of_group = group.unsqueeze(1).expand(n, size, k)
    candidates, index = grouped.gather(2, of_group), of_group + _firsts(size, n_groups)
    if size * n_groups == width:
        keys = _keys(candidates.view(n, -1), index.view(n, -1))
    else:
        rest = _places(width)[size * n_groups :].expand(n, -1)
        keys = _keys(
            torch.cat([candidates.view(n, -1), x[:, size * n_groups :]], 1),
            torch.cat([index.view(n, -1), rest], 1),
        )
    return _value_and_place(_top(keys, k))


_LOWER = 2**32 - 1


@functools.cache
def _places(width: int) -> Tensor:
    return torch.arange(width, dtype=torch.int32)


@functools.cache
def _firsts(size: int, n_groups: int) -> Tensor:
    """Where the first member of the first group, the second of the first, … is in a row."""
    return torch.arange(0, size * n_groups, n_groups).view(1, size, 1)


def _keys(x: Tensor, place: Tensor) -> Tensor:
    """int64 (n, m) that sort as the positive numbers of x (n, m) do; below them all others.

    The bits of a float above 0 are an integer that grows with it, and of one below 0 a negative
    integer. In memory the lower half of an int64, here `place`, comes first.
    """
    keys = torch.empty((*x.shape, 2), dtype=torch.int32)
    keys[..., 0] = place
    keys[..., 1] = x.view(torch.int32)
    return keys.view(torch.int64).squeeze(2)


def _top(keys: Tensor, k: int) -> Tensor:
    """The k largest keys of each row (n, m), in a view of `keys` or a part; destroys `keys`."""
    n = len(keys)
    while keys.shape[1] > _NETWORK:
        keys = F.pad(keys, (0, -keys.shape[1] % _NETWORK), value=torch.iinfo(torch.int64).min)
        keys = keys.view(-1, _NETWORK)
        keys.numpy().sort(axis=1)
        keys = keys[:, -k:].reshape(n, -1)
    keys.numpy().sort(axis=1)
    return keys[:, -k:]


def _value_and_place(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Both halves of keys (n, k), numbers below 0 as 0."""
    halves = keys.view(torch.int32)
    return halves.view(torch.float32)[:, 1::2].clamp_min(0), halves[:, ::2].contiguous()
