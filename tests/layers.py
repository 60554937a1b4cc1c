"""A model of many layers whose features are linked at random, and a client of its page.

Nothing but what the layered graph reads: features with their sums, pairs whose Pearson's r is as
drawn, labels and one clustering. Links mostly keep a hidden order, which drawing should find.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from starlette.testclient import TestClient

import atlas
from atlas.web.app import make_app
from atlas.web.viewed import Viewed
from tests.synthetic_links import correlate

N_UNITS = 1_000_000
COMMUNITIES = 7
ADDRESS = "http://127.0.0.1:8765"


@contextmanager
def page(path: Path) -> Iterator[TestClient]:
    """A client of the page of the atlas at `path`, without a socket."""
    with atlas.open(path) as opened, TestClient(make_app(Viewed(opened), 8765), ADDRESS) as client:
        yield client


def build_layers(
    path: Path, n_layers: int = 4, d_sae: int = 60, n_edges: int = 5, seed: int = 0
) -> Path:
    """Create the atlas `path` of SAEs `deep/L-resid_post`; a twentieth of the features are dead.

    n_edges: drawn for each feature towards the next layer; the first is strong where it is drawn.
    """
    rng = np.random.default_rng(seed)
    n = n_layers * d_sae
    alive = rng.random(n) > 0.05
    n_active = np.where(alive, rng.integers(200, 20_000, n), 0)
    hidden = [rng.permutation(d_sae) for _ in range(n_layers)]
    pairs = []
    for layer in range(n_layers - 1):
        a = np.repeat(np.arange(d_sae), n_edges)
        away = np.rint(rng.laplace(0, d_sae / 30, len(a))).astype(int)
        away[::n_edges] = 0
        b = np.argsort(hidden[layer + 1])[(hidden[layer][a] + away) % d_sae]
        r = np.where(away == 0, rng.uniform(0.4, 1, len(a)), rng.uniform(-0.05, 0.5, len(a)))
        one = np.unique(np.stack([a + layer * d_sae, b + (layer + 1) * d_sae]), axis=1)
        live = alive[one].all(axis=0)
        pairs.append(np.vstack([one, r[: one.shape[1]]])[:, live])
    a, b, r = np.concatenate(pairs, axis=1)
    a, b = a.astype(int), b.astype(int)
    sums, squares = 10 * n_active, 100 * n_active
    mean, spread = sums / N_UNITS, np.sqrt(squares / N_UNITS - (sums / N_UNITS) ** 2)
    sum_ab = np.rint((r * spread[a] * spread[b] + mean[a] * mean[b]) * N_UNITS)
    layers = range(n_layers)
    community = rng.integers(0, COMMUNITIES, n)
    tables = {
        "corpora": {"corpus_id": [0], "name": ["none"], "n_words": [N_UNITS]},
        "tokenizers": {"tokenizer_id": [0], "name": ["t"], "n_tokens": [N_UNITS]},
        "models": {
            "model_id": [0], "name": ["deep"], "source": ["/nowhere"], "tokenizer_id": [0],
            "n_layers": [n_layers],
        },
        "saes": {
            "sae_id": layers, "model_id": [0] * n_layers, "layer": layers,
            "name": [f"deep/{layer}-resid_post" for layer in layers],
            "hook": ["resid_post"] * n_layers, "d_sae": [d_sae] * n_layers,
            "first_feature_id": [layer * d_sae for layer in layers],
            "scale": [2.0**-10] * n_layers,
        },
        "features": {
            "feature_id": np.arange(n), "sae_id": np.arange(n) // d_sae,
            "index": np.arange(n) % d_sae, "alive": alive, "density": n_active / N_UNITS,
            "n_active": n_active, "sum_q": sums, "sum_q2": squares, "max_q": [50] * n,
            "quantiles_q": [[]] * n,
        },
        "labels": {
            "feature_id": np.arange(n)[alive], "method": ["words"] * alive.sum(),
            "text": [f"label {i}" for i in np.arange(n)[alive]],
            "score": rng.random(alive.sum()),
        },
        "links": {
            "link_id": layers[:-1], "sae_a": layers[:-1], "sae_b": layers[1:],
            "over": ["tokens"] * (n_layers - 1), "min_joint": [1] * (n_layers - 1),
            "n": [N_UNITS] * (n_layers - 1), "n_pairs": [len(one[0]) for one in pairs],
        },
        "coactivations": {
            "link_id": a // d_sae, "feature_a": a, "feature_b": b,
            "n_both": np.minimum(n_active[a], n_active[b]) // 2,
            "n_both_strong": np.zeros(len(a), int),
            "sum_ab": sum_ab.astype(int),
        },
        "clusterings": {
            "clustering_id": [0], "model_id": [0], "hook": ["resid_post"],
            "method": ["leiden_modularity"], "measure": ["pearson"], "at_least": [0.3],
            "n_communities": [COMMUNITIES],
        },
        "communities": {
            "clustering_id": [0] * n, "community": community, "feature_id": np.arange(n),
        },
        "community_labels": {
            "clustering_id": [0] * COMMUNITIES, "community": range(COMMUNITIES),
            "label": [f"community {i}" for i in range(COMMUNITIES)],
            "n_features": np.bincount(community, minlength=COMMUNITIES),
        },
    }  # fmt: skip
    with atlas.create(path) as made, made.transaction():
        for name, columns in tables.items():
            made.insert(name, pa.table({key: pa.array(list(one)) for key, one in columns.items()}))
        correlate(made)
        made.advance_stamp(str((n_layers, d_sae, n_edges, seed)))
    return path
