"""Ctrl-C and progress while DuckDB works."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager

import duckdb
import pytest

from atlas.rows import run

# One step of its plan takes hours: DuckDB's client alone would not look for Ctrl-C before the end.
ENDLESS = """
    select count(*) from range(100000) a, range(100000) b, range(1000) c
    where a.range + b.range = c.range * 3 + 7
"""


def test_interrupt_stops_the_query_and_frees_the_connection():
    with duckdb.connect() as con:
        timer = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
        started = time.monotonic()
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            run(con, ENDLESS)
        assert time.monotonic() - started < 20
        assert con.execute("select 1").fetchall() == [(1,)]


def test_progress_is_told_in_percent():
    told = []

    class Task:
        def advance(self, amount=1):
            told.append(amount)

        def note(self, text):
            pass

    class Progress:
        @contextmanager
        def task(self, name, total, unit):
            assert (total, unit) == (100, "%")
            yield Task()

        def notice(self, sentence):
            pass

    with duckdb.connect() as con:
        rows = run(
            con, "select sum(hash(a.range)) from range(12000) a, range(30000) b", None, Progress()
        )
        assert len(list(rows)) == 1
    assert all(amount > 0 for amount in told)
    assert sum(told) <= 100
