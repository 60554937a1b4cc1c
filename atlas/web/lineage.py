"""/api/lineage, /api/flow, /api/edge: what a feature comes from and becomes, and how many do."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np

from atlas.web.communities import members_of, of_place
from atlas.web.given import Given
from atlas.web.layered import Layered, layered
from atlas.web.measures import asked_measure
from atlas.web.places import asked_place, places
from atlas.web.viewed import Connection, Viewed, records

_MOST_NODES = 150


def flow(viewed: Viewed, atlas: Connection, given: Given) -> dict[str, Any]:
    """How many features of each layer go on in the next one, appear and disappear."""
    place = asked_place(viewed, atlas, given)
    measure, at_least = asked_measure(given)
    whole = layered(viewed, atlas, place, measure)
    alive = np.diff(whole.begin).tolist()
    steps = []
    for step in whole.steps:
        lower, upper = step.lower, step.lower + 1
        goes = whole.after[whole.begin[lower] : whole.begin[upper]] >= at_least
        came = whole.before[whole.begin[upper] : whole.begin[upper + 1]] >= at_least
        passed_a, passed_b = int(goes.sum()), int(came.sum())
        steps.append(
            {
                "layer_a": place.saes[lower].layer,
                "layer_b": place.saes[upper].layer,
                "passed_a": passed_a,
                "passed_b": passed_b,
                "appearing": alive[upper] - passed_b,
                "disappearing": alive[lower] - passed_a,
            }
        )
    return {
        **place.described(),
        "measure": measure,
        "at_least": at_least,
        "layers": [
            {"layer": sae.layer, "sae": sae.name, "n_features": sae.d_sae, "n_alive": n}
            for sae, n in zip(place.saes, alive, strict=True)
        ],
        "steps": steps,
    }


def edge(viewed: Viewed, atlas: Connection, given: Given) -> dict[str, Any]:
    """What every measure says of two features."""
    found = records(
        atlas, "from edge(?, ?)", [atlas.feature_id(given.text(one)) for one in ("a", "b")]
    )
    return found[0]


def lineage(viewed: Viewed, atlas: Connection, given: Given) -> dict[str, Any]:
    """What leads to a feature and what follows from it, over as many layers as asked for.

    A feature is as near as the weakest edge of the best path to it; the nearest are kept.
    """
    feature_id = atlas.feature_id(given.text("name"))
    measure, at_least = asked_measure(given)
    depths = {"up": given.integer("up", 99, 0, 99), "down": given.integer("down", 99, 0, 99)}
    for place in places(viewed, atlas):
        if place.links and place.index_of(feature_id) is not None:
            whole = layered(viewed, atlas, place, measure)
            node = whole.node_of(feature_id)
            if node is not None:
                kept, edges, truncated = _cone(whole, node, depths, at_least)
                ids = whole.feature_id[kept].tolist()
                return {
                    "name": atlas.feature_name(feature_id),
                    "measure": measure,
                    "nodes": _described(viewed, atlas, ids, measure),
                    "edges": [
                        {"a": whole.name_of(a), "b": whole.name_of(b), "value": round(value, 5)}
                        for a, b, value in edges
                    ],
                    "truncated": truncated,
                }
    return {
        "name": atlas.feature_name(feature_id),
        "measure": measure,
        "nodes": _described(viewed, atlas, [feature_id], measure),
        "edges": [],
        "truncated": False,
    }


def _cone(
    whole: Layered, start: int, depths: dict[str, int], at_least: float
) -> tuple[list[int], list[tuple[int, int, float]], bool]:
    """The nodes nearest to one, the edges between them, and whether there are more nodes."""
    strength = {start: np.inf}
    distance = {start: 0}
    edges: set[tuple[int, int, float]] = set()
    for direction, depth in depths.items():
        frontier = {start}
        for gone in range(depth):
            reached: set[int] = set()
            for near in frontier:
                for a, b, value in _edges_of(whole, near, direction):
                    if value < at_least:
                        continue
                    edges.add((a, b, value))
                    far = b if direction == "down" else a
                    strength[far] = max(strength.get(far, 0.0), min(strength[near], value))
                    distance[far] = gone + 1
                    reached.add(far)
            if not reached:
                break
            frontier = reached
    kept = heapq.nsmallest(
        _MOST_NODES, strength, key=lambda node: (-strength[node], distance[node], node)
    )
    inside = set(kept)
    between = sorted(one for one in edges if one[0] in inside and one[1] in inside)
    return sorted(kept), between, len(strength) > len(kept)


def _edges_of(whole: Layered, node: int, direction: str) -> list[tuple[int, int, float]]:
    """A node's edges to the next layer ('down') or from the one before ('up')."""
    layer = int(whole.layer_of(np.array(node)))
    place = node - int(whole.begin[layer])
    for step in whole.steps:
        if direction == "down" and step.lower == layer:
            mine = np.arange(step.of_a[place], step.of_a[place + 1])
        elif direction == "up" and step.lower + 1 == layer:
            mine = step.by_b[step.of_b[place] : step.of_b[place + 1]]
        else:
            continue
        return list(
            zip(
                step.a[mine].tolist(), step.b[mine].tolist(), step.value[mine].tolist(), strict=True
            )
        )
    return []


def _described(
    viewed: Viewed, atlas: Connection, ids: list[int], measure: str
) -> list[dict[str, Any]]:
    """The features as the page shows them, in this order."""
    rows = records(
        atlas,
        """
        select
            feature, feature_id, models.name as model, feature_names.layer, label, density
        from feature_names
        join features using (feature_id)
        join saes on saes.sae_id = features.sae_id
        join models using (model_id)
        left join best_labels using (feature_id)
        where list_contains(?::bigint[], feature_id)
        order by feature_id
        """,
        [ids],
    )
    by_id = {row["feature_id"]: row for row in rows}
    found = []
    for feature_id in ids:
        row = by_id[feature_id]
        place = next(one for one in places(viewed, atlas) if one.index_of(feature_id) is not None)
        clustering = of_place(viewed, atlas, place, measure, None)
        row["community"] = members_of(viewed, atlas, place, clustering).get(feature_id)
        found.append(row)
    return found
