"""Runs the command line for tests: in this process, or as a real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from atlas.cli import main

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "atlas.cli"]


def invoke(*args: object, **kwargs: Any) -> Result:
    """`atlas ARGS…` in this process; stdout, stderr and exit code apart."""
    environment = {"ATLAS": None, "ATLAS_DEBUG": None, **kwargs.pop("env", {})}
    return CliRunner().invoke(main, list(map(str, args)), env=environment, **kwargs)


def succeed(*args: object, **kwargs: Any) -> str:
    """The same, which must end well; its stdout."""
    result = invoke(*args, **kwargs)
    assert result.exit_code == 0, result.output
    return result.stdout


def told(result: Result) -> str:
    """The one sentence of a run that must have ended with a told error."""
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert line.endswith((".", "?"))
    assert "Traceback" not in line
    assert "fault of this program" not in line
    return line.removeprefix("Error: ")


def environment(**extra: str) -> dict[str, str]:
    """For a real process: this repository's package, no variable of the user's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ATLAS")}
    return {**kept, "PYTHONPATH": str(ROOT), **extra}


def process(*args: object, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """`atlas ARGS…` as a real process with pipes."""
    return subprocess.run(
        [*COMMAND, *map(str, args)],
        env=environment(**kwargs.pop("env", {})),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        **kwargs,
    )
