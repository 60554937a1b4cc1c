"""How far two partitions of the same nodes agree, beyond what chance would make of their sizes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

_AT_ONCE = 1 << 20
"""Terms of the expected information that are summed at a time."""


def adjusted_mutual_information(a: NDArray[np.integer], b: NDArray[np.integer]) -> float:
    """AMI of two partitions, each int (n,) communities of the same nodes.

    (I(a, b) − E) / ((H(a) + H(b)) / 2 − E), where E is the mean of I over all pairs of partitions
    with these sizes: Vinh, Epps & Bailey 2010, eq. 24a and "AMI_sum". 1 for equal partitions, about
    0 for unrelated ones. Preferred to the adjusted Rand index where communities are small and of
    unequal size (Romano et al. 2016), as those of features are.
    """
    n = len(a)
    size_a, size_b = _sizes(a), _sizes(b)
    if n == 0 or len(size_a) == len(size_b) == 1 or len(size_a) == len(size_b) == n:
        return 1.0  # One community or single nodes in both: nothing to disagree about.
    information = _mutual_information(a, b)
    expected = _expected_information(size_a, size_b, n)
    room = (_entropy(size_a, n) + _entropy(size_b, n)) / 2 - expected
    if abs(room) < 1e-12:
        return 1.0 if abs(information - expected) < 1e-12 else 0.0
    return (information - expected) / room


def _sizes(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    size: NDArray[np.int64] = np.unique(labels, return_counts=True)[1]
    return size


def _entropy(size: NDArray[np.int64], n: int) -> float:
    share = size / n
    return -float((share * np.log(share)).sum())


def _mutual_information(a: NDArray[np.integer], b: NDArray[np.integer]) -> float:
    """In nats."""
    n = len(a)
    _, of_a, size_a = np.unique(a, return_inverse=True, return_counts=True)
    _, of_b, size_b = np.unique(b, return_inverse=True, return_counts=True)
    cell, both = np.unique(of_a * len(size_b) + of_b, return_counts=True)
    apart = size_a[cell // len(size_b)] * size_b[cell % len(size_b)]
    return float((both / n * np.log(n * both / apart)).sum())


def _expected_information(size_a: NDArray[np.int64], size_b: NDArray[np.int64], n: int) -> float:
    """Mean mutual information of random partitions with these sizes, in nats.

    Σ over pairs of communities and over how many nodes m they may share, hypergeometric:
    m/n · ln(n m / (s t)) · P(m | s, t, n). Pairs of equal sizes have equal terms, so that
    thousands of communities cost no more than their few dozen sizes.
    """
    log_factorial = gammaln(np.arange(n + 1) + 1.0)
    total = 0.0
    sizes_b, times_b = np.unique(size_b, return_counts=True)
    for s, times_a in zip(*np.unique(size_a, return_counts=True), strict=True):
        first = np.maximum(1, s + sizes_b - n)
        counts = np.maximum(np.minimum(s, sizes_b) - first + 1, 0)
        # A few of the other sizes at a time, whatever the sizes are.
        cuts = np.flatnonzero(np.diff(counts.cumsum() // _AT_ONCE)) + 1
        for part in np.split(np.arange(len(sizes_b)), cuts):
            of = np.repeat(part, counts[part])
            begin = np.repeat(counts[part].cumsum() - counts[part], counts[part])
            m = first[of] + np.arange(len(of)) - begin
            t = sizes_b[of]
            log_chance = (
                log_factorial[s]
                + log_factorial[t]
                + log_factorial[n - s]
                + log_factorial[n - t]
                - log_factorial[n]
                - log_factorial[m]
                - log_factorial[s - m]
                - log_factorial[t - m]
                - log_factorial[n - s - t + m]
            )
            terms = m / n * np.log(n * m / (s * t)) * np.exp(log_chance)
            total += float(times_a * (terms * times_b[of]).sum())
    return total
