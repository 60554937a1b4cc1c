"""Times two things in turn, so that both meet the same weather on a shared machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence


def seconds(
    function: Callable[[], object], clock: Callable[[], float] = time.perf_counter
) -> float:
    """How long one call takes."""
    started = clock()
    function()
    return clock() - started


def paired(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    rounds: int,
    *,
    warm_up: bool = True,
    fastest: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float, float]:
    """Medians of both in seconds, and the median of the rounds' ratios ours / theirs.

    warm_up: call both once before; of calls that take seconds the first is like any other.
    fastest: in place of medians, what the fastest tenth of the rounds stay below. A call of a
        millisecond that another program interrupts takes several times as long.
    clock: `time.process_time` for the CPU's time, on which other programs have little influence.
    """
    if warm_up:
        ours()
        theirs()
    pairs = [(seconds(ours, clock), seconds(theirs, clock)) for _ in range(rounds)]
    typical = _tenth if fastest else statistics.median
    return (
        typical([a for a, _ in pairs]),
        typical([b for _, b in pairs]),
        statistics.median(a / b for a, b in pairs),
    )


def _tenth(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 10]
