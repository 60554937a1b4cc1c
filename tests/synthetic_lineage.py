"""Stored communities and ablations for the synthetic atlas, by what is planted in it.

A model with several layers has one feature for each concept in every SAE (`synthetic.concepts`);
each concept is a community.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tests.synthetic_pairs import Columns

METHODS = ("leiden_modularity", "components")


def add_communities(add: Any, columns: Columns, concepts: list[np.ndarray]) -> None:
    """Add clusterings, communities and community_labels of run 0, one of each method a chain.

    concepts: per SAE the concept of each feature, -1 for dead ones.
    """
    clustering_id = 0
    for saes in _chains(columns):
        of = np.concatenate([concepts[sae["sae_id"]] for sae in saes])
        ids = np.concatenate([sae["first_feature_id"] + np.arange(sae["d_sae"]) for sae in saes])
        order = np.lexsort((ids, of))[(of < 0).sum() :]
        n = int(of.max()) + 1
        for method in METHODS:
            random = method != "components"
            add(
                "clusterings", clustering_id=clustering_id, run_id=0,
                model_id=saes[0]["model_id"], hook=saes[0]["hook"], variant=saes[0]["variant"],
                method=method, resolution=1.0 if random else None, measure="pearson",
                at_least=0.1, seed=0 if random else None, n_communities=n,
                quality=0.9 if random else None, stability=1.0 if random else None,
            )  # fmt: skip
            add(
                "communities", clustering_id=np.full(len(order), clustering_id, "i4"),
                community=of[order].astype("i4"), feature_id=ids[order],
            )  # fmt: skip
            add(
                "community_labels", clustering_id=np.full(n, clustering_id, "i4"),
                community=np.arange(n, dtype="i4"), label=[f"concept {i}" for i in range(n)],
                n_features=np.bincount(of[order]),
            )  # fmt: skip
            clustering_id += 1


def add_ablations(add: Any, columns: Columns, concepts: list[np.ndarray]) -> None:
    """Add ablations of run 0: of each concept's feature in a layer, seen in the next one's."""
    for saes in _chains(columns):
        for a, b in itertools.pairwise(saes):
            live = np.flatnonzero(concepts[a["sae_id"]] >= 0)
            concept = concepts[a["sae_id"]][live]
            beyond = np.argsort(np.where(concepts[b["sae_id"]] < 0, 999, concepts[b["sae_id"]]))
            before = 1.0 + 0.5 * concept
            after = before * concept / (concept.max() + 1)
            add(
                "ablations", run_id=np.zeros(len(live), "i4"),
                feature_a=a["first_feature_id"] + live,
                feature_b=b["first_feature_id"] + beyond[concept],
                n_tokens=10 + concept, mean_before=before, mean_after=after, effect=before - after,
            )  # fmt: skip


def _chains(columns: Columns) -> list[list[dict[str, Any]]]:
    """SAEs of one model, hook and variant by layer, where there are several."""
    chains: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for sae in sorted(columns["saes"], key=lambda sae: sae["layer"]):
        chains.setdefault((sae["model_id"], sae["hook"], sae["variant"]), []).append(sae)
    return [chain for chain in chains.values() if len(chain) > 1]
