"""Runs DuckDB's work so that Ctrl-C stops it at once and its progress can be told.

DuckDB's client looks for Ctrl-C on the main thread, between the steps of a plan; a step such as a
large join may take minutes, and then nothing stops it. Here the work is done by another thread,
and the main one is free to pass the interrupt on, which DuckDB heeds within a step.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from atlas.progress import Progress

if TYPE_CHECKING:
    import duckdb

T = TypeVar("T")

_POLL_SECONDS = 0.1
_INTERRUPTED = 130


def interruptible(
    connection: duckdb.DuckDBPyConnection,
    function: Callable[[], T],
    progress: Progress | None = None,
) -> T:
    """What `function` returns or raises; it may use `connection`, and nobody else meanwhile.

    progress: is told DuckDB's own estimate in percent, where the connection's setting
    `enable_progress_bar` is on.

    A KeyboardInterrupt stops the work before it is raised. Python functions inside a query cannot
    be stopped: a second Ctrl-C while waiting for one ends the process.
    """
    work = _Work(function)
    thread = threading.Thread(target=work.run, name="atlas-query", daemon=True)
    try:
        thread.start()
        if progress is None:
            work.wait()
        else:
            with progress.task("query", 100, "%") as task:
                told = 0.0
                while not work.done.wait(_POLL_SECONDS):
                    percent = connection.query_progress()
                    if percent > told:
                        task.advance(percent - told)
                        told = percent
    except KeyboardInterrupt:
        try:
            # Again and again, because one that comes before the query has begun is forgotten.
            while not work.done.is_set():
                connection.interrupt()
                work.done.wait(_POLL_SECONDS)
        except KeyboardInterrupt:
            sys.stderr.flush()
            os._exit(_INTERRUPTED)
        raise
    return work.outcome()


class _Work(Generic[T]):
    """A call made in another thread."""

    def __init__(self, function: Callable[[], T]) -> None:
        self.done = threading.Event()
        self._function = function
        self._returned: list[T] = []
        self._raised: BaseException | None = None

    def run(self) -> None:
        try:
            self._returned.append(self._function())
        except BaseException as error:
            self._raised = error
        finally:
            self.done.set()

    def wait(self) -> None:
        # Not by Thread.join: interrupted, Python 3.11's takes the thread for ended. With a time
        # limit, because on Windows a wait without one cannot be interrupted.
        while not self.done.wait(_POLL_SECONDS):
            pass

    def outcome(self) -> T:
        if self._raised is not None:
            raise self._raised
        return self._returned[0]
