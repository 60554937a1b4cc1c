"""Runs independent tensor jobs on all cores, one thread to each.

Jobs of one thread need no barrier inside their operations, which makes them faster than as many
threads within each operation (much so where other programs use the cores too), and their results do
not depend on the number of threads.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

import torch

Job = Callable[[], None]
Stage = list[Job]
"""Jobs that may run at the same time; the next stage of a lane begins when all have ended."""

_thread = threading.local()


def n_workers() -> int:
    """As many as torch uses threads."""
    return torch.get_num_threads()


def run_each(jobs: Iterable[Job]) -> None:
    """Run jobs at the same time; returns when all have ended, or raises what one of them raised."""
    run_lanes([iter([list(jobs)])])


def run_lanes(lanes: Iterable[Iterator[Stage]]) -> None:
    """Run lanes at the same time, each stage by stage.

    The iterators themselves are advanced by the calling thread alone. Whatever a job or an iterator
    raises is raised here once the jobs that had begun are over. Within a job, which has a core to
    itself, lanes run one after another.
    """
    if getattr(_thread, "is_worker", False):
        for lane_here in lanes:
            run_here(lane_here)
        return
    pool = _pool(n_workers())
    ended: SimpleQueue[tuple[int, Future[None]]] = SimpleQueue()
    stages = list(lanes)
    left = [0] * len(stages)

    def begin(lane: int) -> None:
        for stage in stages[lane]:
            if stage:
                left[lane] = len(stage)
                for job in stage:
                    pool.submit(job).add_done_callback(lambda future: ended.put((lane, future)))
                return

    def end() -> int:
        lane, future = ended.get()
        left[lane] -= 1
        future.result()
        return lane

    try:
        for lane in range(len(stages)):
            begin(lane)
        while any(left):
            lane = end()
            if not left[lane]:
                begin(lane)
    finally:
        while any(left):
            with contextlib.suppress(BaseException):
                end()


def run_here(lane: Iterator[Stage]) -> None:
    """Run one lane in the calling thread."""
    for stage in lane:
        for job in stage:
            job()


@functools.cache
def _pool(size: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(size, "atlas-worker")
    # A worker's setting is its own, but also what threads begun later find: start all workers now,
    # then set it back for others.
    started = threading.Barrier(size + 1)
    for _ in range(size):
        pool.submit(_prepare, started)
    started.wait()
    torch.set_num_threads(size)
    return pool


def _prepare(started: threading.Barrier) -> None:
    # A thread that has not asked yet would, at its first operation, take the setting of others.
    torch.get_num_threads()
    torch.set_num_threads(1)
    _thread.is_worker = True
    started.wait()
