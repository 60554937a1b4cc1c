"""Runs independent tensor jobs on all cores, one thread to each.

Jobs of one thread need no barrier inside their operations, which makes them faster than as many
threads within each operation (much so where other programs use the cores too), and their results do
not depend on the number of threads.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue

import torch

Job = Callable[[], None]
Stage = list[Job]
"""Jobs that may run at the same time; the next stage of a lane begins when all have ended."""


def n_workers() -> int:
    """As many as torch uses threads."""
    return torch.get_num_threads()


def run_each(jobs: Iterable[Job]) -> None:
    """Run jobs at the same time; returns when all have ended, or raises what one of them raised."""
    run_lanes([iter([list(jobs)])])


def run_lanes(lanes: Iterable[Iterator[Stage]]) -> None:
    """Run lanes at the same time, each stage by stage.

    The iterators themselves are advanced by the calling thread alone. If a job raises, the jobs
    that have begun end first.
    """
    pool = _pool(n_workers())
    ended: SimpleQueue[tuple[int, Future[None]]] = SimpleQueue()
    waiting = list(lanes)
    left = [0] * len(waiting)

    def end(lane: int, future: Future[None]) -> None:
        ended.put((lane, future))

    def begin(lane: int) -> None:
        for stage in waiting[lane]:
            if stage:
                left[lane] = len(stage)
                for job in stage:
                    pool.submit(job).add_done_callback(partial(end, lane))
                return

    failure: BaseException | None = None
    for lane in range(len(waiting)):
        begin(lane)
    while any(left):
        lane, future = ended.get()
        left[lane] -= 1
        failure = failure or future.exception()
        if not left[lane] and failure is None:
            begin(lane)
    if failure is not None:
        raise failure


def run_here(lane: Iterator[Stage]) -> None:
    """Run one lane in the calling thread."""
    for stage in lane:
        for job in stage:
            job()


@functools.cache
def _pool(size: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(
        size, "atlas-worker", initializer=torch.set_num_threads, initargs=(1,)
    )
    # A worker's setting is its own, but also what threads begun later find: start all workers now,
    # then set it back for others.
    started = threading.Barrier(size + 1)
    for _ in range(size):
        pool.submit(started.wait)
    started.wait()
    torch.set_num_threads(size)
    return pool
