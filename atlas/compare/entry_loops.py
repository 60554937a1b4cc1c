"""Compiled loops over the entries of symmetric matrices: sums under permutations, and ranks.

Every loop releases the interpreter's lock, so that several threads run it at once. `upper` is what
stands above the diagonal of an n × n matrix, row by row: row i begins at i·n − i·(i + 1)/2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.compiled import compiled_in_any_order

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_BITS = 11
"""Of a key that one pass of the radix sort looks at: as many piles as a cache of 32 KB serves."""


@compiled_in_any_order
def permuted_sums(upper: Singles, full: Singles, orders: NDArray[np.int32]) -> Floats:
    """Σ_{i<j} a_ij · b_o(i)o(j) for each order o (m, n) of the second matrix, float64 (m,).

    upper: the first matrix; full: the second one, (n, n), symmetric.

    One row of `full` at a time, 4n bytes that stay in the fastest cache, serves all permutations:
    entries gathered at random come from there, and what is read from memory is read in its order.
    """
    m, n = orders.shape
    sums = np.zeros(m)
    place = np.empty((m, n), np.int32)
    for p in range(m):
        for i in range(n):
            place[p, orders[p, i]] = i
    for k in range(n):
        row = full[k]
        for p in range(m):
            i = int(place[p, k])
            start = i * n - i * (i + 1) // 2
            entries = upper[start : start + n - i - 1]
            order = orders[p, i + 1 :]
            total = 0.0
            for j in range(len(entries)):
                total += np.float64(entries[j]) * np.float64(row[order[j]])
            sums[p] += total
    return sums


@compiled_in_any_order
def mirrored(upper: Any, n: int) -> Any:
    """The symmetric matrix (n, n) with `upper` above and below a diagonal of zeros."""
    full = np.zeros((n, n), upper.dtype)
    at = 0
    for i in range(n):
        for j in range(i + 1, n):
            full[i, j] = upper[at]
            full[j, i] = upper[at]
            at += 1
    return full


@compiled_in_any_order
def ascending(values: Singles) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Where the values stand when sorted, uint32 (N,), and the number of each among distinct ones.

    Equal values keep their order. Numbers are by place in the sorted order, from 0. NaN has no
    place. N < 2³².
    """
    n = len(values)
    bits = values.view(np.uint32)
    keys, order = np.empty(n, np.uint32), np.empty(n, np.uint32)
    for i in range(n):
        # As integers, floats order by size, but for the sign, and but for negative ones backwards.
        one = bits[i] if values[i] != 0 else np.uint32(0)
        keys[i] = ~one if one >> 31 else one | np.uint32(0x80000000)
        order[i] = i
    next_keys, next_order = np.empty(n, np.uint32), np.empty(n, np.uint32)
    for shift in range(0, 32, _BITS):
        begin = np.zeros((1 << _BITS) + 1, np.int64)
        for i in range(n):
            begin[((keys[i] >> shift) & ((1 << _BITS) - 1)) + 1] += 1
        for pile in range(1 << _BITS):
            begin[pile + 1] += begin[pile]
        for i in range(n):
            pile = (keys[i] >> shift) & ((1 << _BITS) - 1)
            next_keys[begin[pile]] = keys[i]
            next_order[begin[pile]] = order[i]
            begin[pile] += 1
        keys, next_keys = next_keys, keys
        order, next_order = next_order, order
    number = np.uint32(0)
    numbers = next_keys
    for i in range(n):
        if i and keys[i] != keys[i - 1]:
            number += np.uint32(1)
        numbers[i] = number
    return order, numbers


@compiled_in_any_order
def centred_ranks(order: NDArray[np.uint32], numbers: NDArray[np.uint32]) -> Singles:
    """Ranks less their mean, in the values' own order, from `ascending`; equal values share one."""
    n = len(order)
    ranks = np.empty(n, np.float32)
    first = 0
    while first < n:
        last = first
        while last + 1 < n and numbers[last + 1] == numbers[first]:
            last += 1
        for i in range(first, last + 1):
            ranks[order[i]] = 0.5 * (first + last) - 0.5 * (n - 1)
        first = last + 1
    return ranks


@compiled_in_any_order
def kendall_counts(
    place: NDArray[np.uint32],
    numbers_a: NDArray[np.uint32],
    numbers_b: NDArray[np.uint32],
    order: NDArray[np.int64],
) -> tuple[int, int]:
    """Discordant pairs of entries, and those equal in both matrices, of which B is permuted.

    Arrays as in `kendall._Kendall`. Entries of B are brought into A's order, and sorted among those
    that are equal in A; what remains out of order is discordant, and is counted by a merge sort
    (Knight 1966).
    """
    n = len(order)
    size = len(place)
    here, there = np.empty(size, np.uint32), np.empty(size, np.uint32)
    at = 0
    for i in range(n):
        row = numbers_b[order[i]]
        for j in range(i + 1, n):
            here[place[at]] = row[order[j]]
            at += 1
    tied = 0
    first = 0
    while first < size:
        end = first + 1
        while end < size and numbers_a[end] == numbers_a[first]:
            end += 1
        if end - first > 1:
            here[first:end].sort()
            run = 1
            for i in range(first + 1, end):
                run = run + 1 if here[i] == here[i - 1] else 1
                tied += run - 1
        first = end
    discordant = 0
    width = 1
    while width < size:
        for begin in range(0, size, 2 * width):
            middle, end = min(begin + width, size), min(begin + 2 * width, size)
            left, right = begin, middle
            for at in range(begin, end):
                if right == end or (left < middle and here[left] <= here[right]):
                    there[at] = here[left]
                    left += 1
                else:
                    there[at] = here[right]
                    right += 1
                    discordant += middle - left
        here, there = there, here
        width *= 2
    return discordant, tied
