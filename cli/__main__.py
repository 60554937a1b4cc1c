"""`python -m atlas.cli`."""

from __future__ import annotations

from atlas.cli import main

if __name__ == "__main__":
    main(prog_name="atlas")
