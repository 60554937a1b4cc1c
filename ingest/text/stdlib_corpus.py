"""The demo's corpus: the standard library's documentation as any other text to ingest."""

from __future__ import annotations

import sys

from atlas.demo.text import documents
from atlas.ingest.text.corpus import Corpus


def stdlib_corpus() -> Corpus:
    """Help topics and docstrings of the Python that runs (`atlas.demo.text.documents`).

    Each document's source is its name there, such as 'heapq.merge'. Iterating raises BadInput where
    this Python came without its library's sources.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Corpus("stdlib", f"documentation of Python {version}'s standard library", documents)
