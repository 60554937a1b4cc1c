"""A database of sparse-autoencoder features that answers SQL.

import atlas
with atlas.open("demo.atlas") as a:
    a.sql("from similar('stdlib-a/3-resid_post/12', k := 5)").pl()
"""

from __future__ import annotations

from atlas.cards import FeatureCard
from atlas.errors import AtlasError
from atlas.session import Atlas, Comparison, Hit
from atlas.session import create_atlas as create
from atlas.session import open_atlas as open

__all__ = [
    "Atlas",
    "AtlasError",
    "Comparison",
    "FeatureCard",
    "Hit",
    "__version__",
    "create",
    "open",
]

__version__ = "0.1.0"
