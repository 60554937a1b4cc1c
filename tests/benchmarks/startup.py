"""Cold start of the command line, against a bare `python -c pass` and `import duckdb`."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.data import demo_atlas
from tests.benchmarks.timing import seconds

_ROUNDS = 9


def run(folder: Path) -> Iterator[str]:
    """One row a command: the median of the rounds."""
    atlas = demo_atlas(folder)
    commands = {
        "python -c pass": ["-c", "pass"],
        "python -c 'import duckdb'": ["-c", "import duckdb"],
        "atlas --help": ["-m", "atlas.cli", "--help"],
        "atlas show": ["-m", "atlas.cli", "show", str(atlas), "0"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(_ROUNDS + 1):
        for name, arguments in commands.items():
            times[name].append(seconds(lambda a=arguments: _call(a)))  # type: ignore[misc]
    for name, all_ in times.items():
        measured = sorted(all_[1:])
        yield (
            f"{name:28} median {statistics.median(measured):6.3f} s   "
            f"min {measured[0]:6.3f}   max {measured[-1]:6.3f}"
        )


def _call(arguments: list[str]) -> None:
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
