"""The toy atlas with made-up SAEs of one more model: a sweep that has a frontier."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import atlas
from tests.synthetic import build_synthetic

WIDTHS = (1024, 4096)
ARCHITECTURES = ("jumprelu", "standard", "topk")
FIRST = 100
"""Id of the first of them."""


def build_sweep(path: Path, seed: int = 0) -> Path:
    """Add 30 SAEs at two hook points of toy-a, without features; returns the path."""
    rng = np.random.default_rng(seed)
    build_synthetic(path, documents=10)
    with atlas.open(path, write=True) as store, store.transaction():
        sae_id = FIRST
        for layer in (2, 3):
            for architecture in ARCHITECTURES:
                for k in (8, 16, 32, 64, 64):
                    width = WIDTHS[sae_id % 2]
                    store.execute(
                        "insert into saes select * replace (? as sae_id, ? as name, ? as layer,"
                        " ? as architecture, ? as d_sae) from saes where sae_id = 0",
                        [sae_id, f"toy-a/{layer}-resid_post-{sae_id}", layer, architecture, width],
                    )
                    store.execute(
                        "insert into sae_sites select * replace (? as sae_id, ? as layer)"
                        " from sae_sites where sae_id = 0",
                        [sae_id, layer],
                    )
                    l0 = k if architecture == "topk" else k * float(np.exp(rng.normal() / 5))
                    loss = 0.5 * l0**-0.5 * float(np.exp(rng.normal() / 5))
                    for metric, value in (
                        ("l0", l0), ("ce", 2.0), ("ce_spliced", 2 + loss),
                        ("explained_variance", 1 - loss),
                    ):  # fmt: skip
                        store.execute(
                            "insert into sae_metrics by name select ? as sae_id, ? as metric,"
                            " ? as value, 0 as run_id, 1 as version",
                            [sae_id, metric, value],
                        )
                    sae_id += 1
    return path
