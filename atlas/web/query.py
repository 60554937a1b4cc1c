"""/api/sql: one query of the reader's, in a process of its own that can be ended at any time.

DuckDB's own limits do not hold against every query: folding `list_sum(range(1000000000))` takes
20 GB with a memory limit of 1 GB, and hears neither an interrupt nor the limit on execution time
(DuckDB 2.0.0). The operating system's do: on memory, on processor time and, in the end, by
killing. See `query_child` for what the process refuses.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import Any

from atlas.errors import AtlasError, QueryError
from atlas.rows import to_json
from atlas.web.given import Given
from atlas.web.viewed import Connection, Stopped, Viewed

SECONDS = 20.0
"""Wall-clock time that a query may take."""

_MOST_QUERY = 100_000
_MOST_ROWS = 10_000
_MOST_ANSWER = 1 << 24
_AT_ONCE = threading.BoundedSemaphore(2)


def query(viewed: Viewed, atlas: Connection, given: Given) -> dict[str, Any]:
    """The rows of one SELECT, as many as asked for."""
    asked = {
        "path": str(viewed.path.resolve()),
        "query": given.text("query", _MOST_QUERY),
        "limit": given.integer("limit", 1000, 1, _MOST_ROWS),
        "seconds": SECONDS,
    }
    with _AT_ONCE:
        answer = _run(atlas, to_json(asked).encode())
    if "error" in answer:
        raise QueryError(answer["error"])
    return answer


def _run(atlas: Connection, asked: bytes) -> dict[str, Any]:
    with subprocess.Popen(
        # -P, so that a folder `atlas` where the server was started is no module.
        [sys.executable, "-P", "-m", "atlas.web.query_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # Threads of the numeric libraries reserve memory that the limit counts.
        env={**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
        start_new_session=True,  # a Ctrl-C for the server is not for this process
    ) as process:
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(SECONDS + 2, end)  # the process keeps the time itself, if it can
        timer.start()
        try:
            atlas.when_stopped(process.kill)
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(asked)
                process.stdin.close()
            except BrokenPipeError:
                pass  # its end is told below
            text = process.stdout.read(_MOST_ANSWER + 1)
        finally:
            timer.cancel()
            process.kill()
    if atlas.stopped:
        raise Stopped
    if late.is_set():
        raise QueryError(f"The query took longer than {SECONDS:.0f} seconds and was ended.")
    try:
        answer: dict[str, Any] = json.loads(text)
    except ValueError:
        raise QueryError(
            "The query used more memory than it may and was ended; ask for less at a time."
        ) from None
    if len(text) > _MOST_ANSWER:
        raise AtlasError("The answer is too long; ask for fewer columns or rows.")
    return answer
