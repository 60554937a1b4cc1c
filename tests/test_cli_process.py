"""The command line as a real process: start-up, pipes, signals, locks, terminals."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

import atlas
from tests.commandline import COMMAND, environment, process
from tests.test_running import ENDLESS


def fastest(*args, times=3):
    """Seconds of the fastest of some runs, which a busy machine disturbs least."""
    took = []
    for _ in range(times):
        started = time.perf_counter()
        subprocess.run(args, env=environment(), capture_output=True, check=True, timeout=60)
        took.append(time.perf_counter() - started)
    return min(took)


def test_cold_start(toy):
    # In units of what no command can do without, as machines differ.
    bare = fastest(sys.executable, "-c", "import click, duckdb")
    assert fastest(*COMMAND, "--help") < 2.5 * bare + 0.1
    assert fastest(*COMMAND, "show", str(toy), "3") < 5 * bare + 0.2


@pytest.mark.parametrize(
    "words", [["--help"], ["ingest", "--help"], ["show", "{}", "3"], ["sql", "{}", "select 1"]]
)
def test_heavy_packages_stay_out(toy, words):
    code = (
        "import sys, atlas.cli, contextlib\n"
        "with contextlib.suppress(SystemExit):\n"
        f"    atlas.cli.main({[word.format(toy) for word in words]!r})\n"
        # Not NumPy, which DuckDB's client imports when a Python function is registered.
        "heavy = {'torch', 'transformers', 'faiss', 'scipy', 'polars', 'pyarrow', 'pandas',"
        " 'prompt_toolkit'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    assert done.stderr == "[]\n"


@pytest.mark.parametrize(
    "words",
    [
        ["link", "nosuch.atlas"],
        ["link", "{}", "toy-a", "nosuch"],
        ["communities", "{}", "nosuch", "--method", "louvain"],
        ["lineage", "nosuch.atlas", "--causal", "3"],
    ],
)
def test_wrong_names_are_told_before_anything_heavy_is_imported(toy, words):
    code = (
        "import sys, atlas.cli._errors\n"
        "try:\n"
        f"    atlas.cli.main({[word.format(toy) for word in words]!r}, standalone_mode=False)\n"
        "except (atlas.errors.NotFound, atlas.errors.QueryError):\n"
        "    print(sorted({'torch', 'numba', 'scipy', 'pyarrow'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.stdout == "[]\n", done.stderr


def test_variable_names_the_atlas(toy):
    done = process("show", "3", "-f", "json", env={"ATLAS": str(toy)})
    assert done.returncode == 0
    assert done.stderr == ""
    assert json.loads(done.stdout)["feature_id"] == 3


def test_rows_are_utf8_whatever_the_locale(toy):
    done = process("sql", toy, "select 'é日🎈' as x", "-f", "json",
                   env={"LC_ALL": "C", "PYTHONIOENCODING": "ascii"})  # fmt: skip
    assert json.loads(done.stdout) == [{"x": "é日🎈"}]


def test_text_survives_a_poor_locale(toy):
    done = process("show", toy, "3", env={"LC_ALL": "C", "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize("kind", ["csv", "ndjson", "json", "table"])
def test_reader_that_goes_away_is_no_error(toy, kind):
    # More than a pipe holds.
    query = f"select repeat('x', 100) from range({5000 if kind == 'table' else 500_000})"
    with subprocess.Popen(
        [*COMMAND, "sql", str(toy), query, "-f", kind],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as running:  # fmt: skip
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
        # A table is written at once, and the system may take all of it before the pipe closes.
        assert running.wait(60) in ((0, 1) if kind == "table" else (1,))


def test_memory_does_not_grow_with_the_rows(toy):
    code = (
        "import resource, sys, atlas.cli\n"
        "try:\n"
        "    atlas.cli.main(sys.argv[1:])\n"
        "finally:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\n"
    )

    def peak(n):
        query = f"select range as i, repeat('x', 100) as s from range({n})"
        done = subprocess.run(
            [sys.executable, "-c", code, "sql", str(toy), query, "-f", "ndjson"],
            env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True,
            timeout=120,
        )  # fmt: skip
        return int(done.stderr) * 1024

    # 390,000 more rows of 100 characters are at least 39 MB if anyone keeps them.
    assert peak(400_000) - peak(10_000) < 20e6


def test_ctrl_c_ends_a_query(toy):
    with subprocess.Popen(
        [*COMMAND, "sql", str(toy), ENDLESS],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        time.sleep(3)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert out == ""
    assert err.strip() == ""


def test_lock_is_told_and_waited_for(toy, tmp_path):
    path = tmp_path / "locked.atlas"
    path.write_bytes(toy.read_bytes())
    with atlas.open(path, write=True):
        refused = process("info", path)
        assert refused.returncode == 1
        assert "--wait" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        waiting = subprocess.Popen(
            [*COMMAND, "info", str(path), "--wait", "30"],
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        time.sleep(2)
        assert waiting.poll() is None
    out, err = waiting.communicate(timeout=30)
    assert (waiting.returncode, err) == (0, "")
    assert "toy-a" in out


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000])
def test_file_that_is_no_atlas(tmp_path, content):
    path = tmp_path / "other.atlas"
    path.write_bytes(content)
    done = process("info", path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert path.read_bytes() == content


def on_terminal(*args, keys=b"", env=None):
    """What `atlas ARGS…` writes to a terminal of 100 columns, and its exit code."""
    leader, follower = pty.openpty()
    running = subprocess.Popen(
        [*COMMAND, *map(str, args)],
        env=environment(TERM="xterm-256color", COLUMNS="100", LINES="40", **(env or {})),
        stdin=follower, stdout=follower, stderr=follower, close_fds=True, start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    written = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([leader], [], [], 0.1)[0]:
            try:
                written += os.read(leader, 65536)
            except OSError:  # the process is gone
                break
        if keys and b"toy>" in written:
            os.write(leader, keys)
            keys = b""
    os.close(leader)
    return written.decode(), running.wait(10)


def test_terminal_gets_shades_and_tables(toy):
    text, code = on_terminal("show", toy, "3")
    assert code == 0
    assert "\x1b[30;48;5;" in text or "48;5;" in text
    assert "«" not in text
    text, code = on_terminal("sql", toy, "from range(1000)")
    assert code == 0
    assert "first 100 rows" in text


def test_shell_on_a_terminal(toy, tmp_path):
    text, code = on_terminal(
        "sql", toy, keys=b"select 40 + 2 as answer;\r\x04", env={"XDG_STATE_HOME": str(tmp_path)}
    )
    assert code == 0
    assert "answer" in text
    assert "42" in text
