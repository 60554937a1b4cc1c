"""A database of sparse-autoencoder features that answers SQL.

import atlas
with atlas.open("demo.atlas") as a:
    a.sql("from similar('stdlib-a/2-resid_post/12', k := 5)").pl()
"""

from __future__ import annotations

import os

from atlas.errors import AtlasError
from atlas.store import Atlas

__all__ = ["Atlas", "AtlasError", "__version__", "create", "open"]

__version__ = "0.1.0"


def open(path: str | os.PathLike[str], *, write: bool = False, wait: float = 0.0) -> Atlas:
    """Open an atlas, read-only unless `write`, with the macros that need Python connected.

    wait: seconds to wait while another process holds the file.
    """
    from atlas import kernels

    opened = Atlas.open(path, write=write, wait=wait)
    kernels.install(opened)
    return opened


def create(path: str | os.PathLike[str]) -> Atlas:
    """Make a new, empty atlas, open for writing, with the macros that need Python connected."""
    from atlas import kernels

    made = Atlas.create(path)
    kernels.install(made)
    return made
