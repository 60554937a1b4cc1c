"""Answers of the API, made up: a layered graph of planted shape, features with hostile texts.

With them the page is tested alone, on what the API promises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
"""A label as a stranger's atlas may hold it."""
LAYERS = (0, 1, 2)
WIDTH = 40
"""Features of a layer; feature i continues in feature i of the next, and more weakly in i + 1."""

Params = dict[str, str]
Answers = dict[str, Callable[[Params], Any]]


class Refused(Exception):
    """An answer with an error's status and sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def name(layer: int, index: int) -> str:
    return f"m/{layer}-resid_post/{index}"


def label(layer: int, index: int) -> str:
    return EVIL if index == 7 else f"concept {index} of layer {layer}"


def _node(layer: int, index: int) -> dict[str, Any]:
    return {
        "id": 100 * layer + index,
        "feature": name(layer, index),
        "layer": layer,
        "y": (index + 0.5) / WIDTH,
        "label": label(layer, index),
        "label_score": 0.5,
        "density": 0.01,
        "community": index // 4,
        "passed": True,
        "appearing": layer > 0 and index % 10 == 9,
        "disappearing": False,
    }


def _edge(layer: int, a: int, b: int, value: float) -> dict[str, Any]:
    return {
        "a": 100 * layer + a,
        "b": 100 * (layer + 1) + b,
        "layer_a": layer,
        "layer_b": layer + 1,
        "ya": (a + 0.5) / WIDTH,
        "yb": (b + 0.5) / WIDTH,
        "value": value,
    }


def graph(asked: Params, most: int | None = None) -> dict[str, Any]:
    """`most`: nodes above which the answer is bands, whatever the page can draw."""
    limit = min(int(asked["limit"]), most or 10**9)
    y0, y1 = float(asked.get("y0", 0)), float(asked.get("y1", 1))
    at_least = float(asked["at_least"])
    everywhere = [_node(layer, i) for layer in LAYERS for i in range(WIDTH)]
    nodes = [node for node in everywhere if y0 <= node["y"] < y1]
    edges = [
        _edge(layer, i, j, value)
        for layer in LAYERS[:-1]
        for i in range(WIDTH)
        for j, value in ((i, 0.9), ((i + 1) % WIDTH, 0.6))
        if value >= at_least
    ]
    found = {int(text) for text in asked.get("find", "").split(",") if text}
    answer: dict[str, Any] = {
        "model": "m", "hook": "resid_post", "variant": None, "clustering": 1,
        "measure": asked["measure"], "at_least": at_least, "y0": y0, "y1": y1,
        "from_layer": LAYERS[0], "to_layer": LAYERS[-1],
        "layers": [
            {"layer": n, "sae": f"m/{n}-resid_post", "n": WIDTH, "n_features": WIDTH + 2}
            for n in LAYERS
        ],
        "totals": {"nodes": len(nodes), "edges": len(edges)},
        "complete": len(nodes) == len(everywhere) <= limit,
        "nodes": [], "edges": [], "bands": [], "flows": [],
        "found": [node for node in everywhere if node["id"] in found],
    }  # fmt: skip
    if len(nodes) <= limit:
        answer |= {"nodes": nodes, "edges": edges}
    else:
        answer["bins"] = 4
        answer["bands"] = [
            {"layer": n, "bin": b, "n": WIDTH // 4, "density": 0.01, "appearing": 1,
             "disappearing": 2, "community": b, "share": 0.5}
            for n in LAYERS for b in range(4)
        ]  # fmt: skip
    return answer


def card(asked: Params) -> dict[str, Any]:
    model, site, index = asked["name"].split("/")
    layer, i = int(site.split("-")[0]), int(index)
    if i >= WIDTH:
        raise Refused(404, f"There is no feature {asked['name']}; search for it.")
    text = label(layer, i)
    context = {
        "rank": 1, "stratum": "top", "split": "explain", "activation": 4.0, "marked": text,
        "pieces": [{"text": "before\n", "activation": 0.0}, {"text": text, "activation": 4.0},
                   {"text": " after", "activation": 1.25}],
        "document_id": 3, "source": text,
    }  # fmt: skip
    return {
        "card": {
            "name": asked["name"], "feature_id": 100 * layer + i, "sae": f"{model}/{site}",
            "model": model, "layer": layer, "hook": "resid_post", "index": i, "alive": True,
            "reads": [f"{model}/{site}"], "writes": [{"site": f"{model}/{site}", "share": 1.0}],
            "density": 0.01, "n_active": 120, "mean_activation": 2.0, "max_activation": 4.0,
            "quantiles": {"0.5": 1.5},
            "labels": [{"text": text, "method": "words", "explainer": "atlas", "score": 0.5,
                        "scored_by": text}],
            "promotes": [{"text": f" {text}", "effect": 1.5}],
            "suppresses": [{"text": "no", "effect": -0.5}],
            "top_words": [{"form": text, "n_active": 3, "n_words": 4, "mean_activation": 2.0}],
            "contexts": [context],
        },
        "histogram": {"edges": [0.0, 2.0, 4.0], "counts": [100, 20]},
        "communities": [{"clustering_id": 1, "community": i // 4, "label": text, "n_features": 12}],
        "place": [{"model": "m", "hook": "resid_post", "variant": None}],
    }  # fmt: skip


def lineage(asked: Params) -> dict[str, Any]:
    i = int(asked["name"].rsplit("/", 1)[1])
    return {
        "name": asked["name"], "measure": asked["measure"], "truncated": False,
        "nodes": [
            {"feature": name(n, i), "feature_id": 100 * n + i, "model": "m", "layer": n,
             "label": label(n, i), "density": 0.01, "community": 0}
            for n in LAYERS
        ],
        "edges": [{"a": name(n, i), "b": name(n + 1, i), "value": 0.9} for n in LAYERS[:-1]],
    }  # fmt: skip


def sentence(asked: Params) -> dict[str, Any]:
    tokens = [EVIL if word == "evil" else f" {word}" for word in asked["text"].split()]
    return {
        "model": "m", "text": asked["text"], "tokens": tokens, "measure": "pearson",
        "layers": [
            {"layer": n, "sae": f"m/{n}-resid_post", "features": [
                {"feature": name(n, t), "feature_id": t, "label": label(n, t), "density": 0.01,
                 "max_activation": 4.0, "activations": [[t, 2.0]]}
                for t in range(len(tokens))
            ]}
            for n in LAYERS
        ],
        "edges": [{"a": name(0, 0), "b": name(1, 0), "value": 0.9}],
    }  # fmt: skip


def sql(asked: Params) -> dict[str, Any]:
    if "select" not in asked["query"]:
        raise Refused(422, f"Parser Error: syntax error at or near “{asked['query']}”")
    return {
        "columns": [{"name": "feature", "type": "VARCHAR"}, {"name": "n", "type": "BIGINT"}],
        "rows": [[name(0, 3), 12], [EVIL, None]],
        "truncated": False,
        "seconds": 0.01,
    }


CLUSTERING = {
    "clustering_id": 1, "model": "m", "hook": "resid_post", "variant": None,
    "method": "leiden_modularity", "resolution": 1.0, "measure": "pearson", "at_least": 0.3,
    "n_communities": 10, "quality": 0.9, "stability": 0.8,
}  # fmt: skip


def answers() -> Answers:
    """An answer to every request of the page, by path."""
    overview = {
        "path": "/tmp/planted.atlas", "name": "planted", "format": "4",
        "measures": ["pearson", "jaccard"],
        "corpus": {"name": "made up", "n_documents": 2, "n_words": 30, "n_characters": 99},
        "models": [{"model": "m", "type": "llama", "n_layers": 3, "d_model": 8, "n_tokens": 40,
                    "n_parameters": 1000, "tokenizer": "m", "saes": [
            {"sae": f"m/{n}-resid_post", "layer": n, "hook": "resid_post", "variant": None,
             "architecture": "topk", "d_sae": WIDTH + 2, "n_alive": WIDTH, "l0": 4.0,
             "explained_variance": 0.9, "ce_recovered": 0.95} for n in LAYERS]}],
        "graphs": [{"model": "m", "hook": "resid_post", "variant": None, "layers": list(LAYERS)}],
        "links": [], "clusterings": [CLUSTERING], "sentence": ["m"],
        "comparisons": [
            {"model_a": "m", "model_b": "w", "metric": "svcca", "subspace": "all", "n": 4}],
    }  # fmt: skip

    def search(asked: Params) -> dict[str, Any]:
        hits = [(n, i) for n in LAYERS for i in range(WIDTH) if asked.get("q", "") in label(n, i)]
        return {"results": [
            {"feature": name(n, i), "feature_id": 100 * n + i, "label": label(n, i),
             "label_score": 0.5, "score": 1.0, "sae": f"m/{n}-resid_post", "model": "m",
             "layer": n, "density": 0.01} for n, i in hits]}  # fmt: skip

    def flow(asked: Params) -> dict[str, Any]:
        return {
            "model": "m", "hook": "resid_post", "variant": None, "measure": asked["measure"],
            "at_least": float(asked["at_least"]),
            "layers": [{"layer": n, "sae": f"m/{n}-resid_post", "n_features": 50, "n_alive": 40}
                       for n in LAYERS],
            "steps": [{"layer_a": n, "layer_b": n + 1, "passed_a": 30, "passed_b": 28,
                       "appearing": 12, "disappearing": 10} for n in LAYERS[:-1]],
        }  # fmt: skip

    def heatmap(asked: Params) -> dict[str, Any]:
        return {"rows": [
            {"sae_a": f"m/{i}-resid_post", "sae_b": f"w/{j}-resid_post", "layer_a": i, "layer_b": j,
             "subspace": "all", "metric": asked["metric"], "value": 0.9 - 0.4 * (i != j),
             "calibrated": 0.8 - 0.4 * (i != j), "null_mean": 0.1, "null_sd": 0.01, "p": 0.001,
             "q": 0.002 if i == j else 0.5, "n": 30, "ceiling": None, "floor": None,
             "method": "mutual", "pairing_id": 10 * i + j}
            for i in (0, 1) for j in (0, 1)]}  # fmt: skip

    def pairs(asked: Params) -> dict[str, Any]:
        return {"sae_a": "m/0-resid_post", "sae_b": "w/1-resid_post",
                "method": "mutual", "n_pairs": 30,
                "pairs": [{"feature_a": name(0, 7), "label_a": EVIL, "feature_b": name(1, 1),
                           "label_b": None, "r": 0.75, "q": 0.01}]}  # fmt: skip

    def community(asked: Params) -> dict[str, Any]:
        return {"community": int(asked["id"]), "label": EVIL, "n_features": 2, "members": [
            {"feature": name(n, 7), "feature_id": 100 * n + 7, "layer": n, "label": EVIL,
             "density": 0.01} for n in (0, 1)]}  # fmt: skip

    def communities(asked: Params) -> dict[str, Any]:
        return {"clustering": CLUSTERING, "communities": [
            {"community": 1, "label": EVIL, "n_features": 2, "layers": [{"layer": 0, "n": 2}],
             "top": [{"feature": name(0, 7), "label": EVIL}]}]}  # fmt: skip

    def neighbours(asked: Params) -> dict[str, Any]:
        return {"models": [{"model": "m", "neighbours": [
            {"feature": name(1, 7), "feature_id": 107, "score": 0.8, "label": EVIL,
             "sae": "m/1-resid_post", "layer": 1}]}]}  # fmt: skip

    def edge(asked: Params) -> dict[str, Any]:
        return {"feature_a": asked["a"], "feature_b": asked["b"], "over": "tokens", "n": 1000,
                "n_a": 20, "n_b": 30, "n_both": 15, "pearson": 0.9, "jaccard": 0.43}  # fmt: skip

    return {
        "/api/atlas": lambda _: overview, "/api/search": search, "/api/feature": card,
        "/api/neighbours": neighbours, "/api/lineage": lineage, "/api/graph": graph,
        "/api/edge": edge, "/api/flow": flow, "/api/heatmap": heatmap, "/api/pairs": pairs,
        "/api/communities": communities, "/api/community": community,
        "/api/sentence": sentence, "/api/sql": sql,
    }  # fmt: skip
