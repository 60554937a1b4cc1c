"""Run benchmarks by name, print their tables, and keep the figures with machine and command."""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

NAMES = (
    "ingest", "peers", "architectures", "similar", "storage", "startup", "pairing", "permutations",
    "coactivations", "lineage",
)  # fmt: skip
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--save", action="store_true", help=f"write to {RESULTS.name}/ as well")
    chosen = parser.parse_args()
    unknown = set(chosen.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    lines = [
        machine(),
        f"command: python -m tests.benchmarks {' '.join(sys.argv[1:])}".rstrip(),
        "",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen.names or NAMES:
            module = importlib.import_module(f"tests.benchmarks.{name}")
            title = f"## {name}: {module.__doc__.splitlines()[0]}"
            print(title, flush=True)
            lines.append(title)
            for row in module.run(Path(folder)):
                print(row, flush=True)
                lines.append(row)
            print(flush=True)
            lines.append("")
    if chosen.save:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{datetime.date.today():%Y-%m-%d}-{'-'.join(chosen.names) or 'all'}.txt"
        path.write_text("\n".join(lines), encoding="utf-8")


def machine() -> str:
    """One line about where the figures come from."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "duckdb", "numpy"))
    return (
        f"machine: {model}, {os.cpu_count()} cores, {platform.system()}, Python "
        f"{platform.python_version()}, {packages}"
    )


if __name__ == "__main__":
    main()
