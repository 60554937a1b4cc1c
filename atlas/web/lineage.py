"""/api/lineage, /api/flow, /api/edge: what a feature comes from and becomes, and how many do."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np

from atlas.errors import NotFound
from atlas.web.communities import members_of, of_place
from atlas.web.given import Given
from atlas.web.labels import labels_of
from atlas.web.layered import Layered, layered
from atlas.web.measures import asked_measure
from atlas.web.places import asked_place, places
from atlas.web.viewed import Connection, Viewed, records

_MOST_NODES = 150
_LEAST_ACROSS = 30
"""Counterparts that are shown even beside as many nodes."""


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
    """What every measure says of two features, linked or not, with confidence intervals."""
    if not viewed.has("edges"):
        raise NotFound(
            f"{viewed.path} was written by an older version, without measures of edges; "
            f"`atlas link {viewed.path}` brings it up to date."
        )
    found = records(
        atlas, "from edge(?, ?)", [atlas.feature_id(given.text(one)) for one in ("a", "b")]
    )
    return found[0]


def stored_edges(atlas: Connection, pairs: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """What every measure says of pairs of features, given by id; those that are stored."""
    return records(
        atlas,
        """
        select
            edges.* exclude (
                sae_a, sae_b, layer_a, layer_b, link_id, sae_id_a, sae_id_b, feature_id_a,
                feature_id_b
            ),
            decoder_cosine(feature_id_a, feature_id_b) as decoder_cosine
        from edges
        join (select unnest($a::bigint[]) as a, unnest($b::bigint[]) as b) as asked
            on asked.a = feature_id_a and asked.b = feature_id_b
        """,
        {"a": [a for a, _ in pairs], "b": [b for _, b in pairs]},
    )


def lineage(viewed: Viewed, atlas: Connection, given: Given) -> dict[str, Any]:
    """What leads to a feature and what follows from it, over as many layers as asked for.

    A feature is as near as the weakest edge of the best path to it; the nearest are kept. across:
    with the counterpart of each in every other model that it was compared with.
    """
    feature_id = atlas.feature_id(given.text("name"))
    measure, at_least = asked_measure(given)
    depths = {"up": given.integer("up", 99, 0, 99), "down": given.integer("down", 99, 0, 99)}
    answer = {"name": atlas.feature_name(feature_id), "measure": measure, "at_least": at_least}
    place = next(one for one in places(viewed, atlas) if one.index_of(feature_id) is not None)
    whole = layered(viewed, atlas, place, measure) if place.links else None
    start = whole.node_of(feature_id) if whole else None
    across = given.flag("across") and viewed.has("counterparts")
    if whole is None or start is None:
        pairs = _counterparts(atlas, [feature_id], at_least) if across else []
        ids = [feature_id, *dict.fromkeys(pair["id"] for pair in pairs)]
        return {
            **answer,
            "nodes": _by_id(atlas, ids),
            "edges": _pair_edges(pairs),
            "truncated": False,
        }
    nodes, edges, truncated = _cone(whole, start, depths, at_least)
    labels = labels_of(viewed, atlas, place)
    clustering = of_place(viewed, atlas, place, measure, None)
    members = members_of(viewed, atlas, place, clustering)
    described: list[dict[str, Any]] = [
        {
            "feature": whole.name_of(node),
            "feature_id": int(whole.feature_id[node]),
            "model": place.model,
            "layer": place.saes[int(layer)].layer,
            "label": labels.get(int(whole.feature_id[node]), (None, None))[0],
            "density": float(whole.density[node]),
            "community": members.get(int(whole.feature_id[node])),
        }
        for node, layer in zip(nodes, whole.layer_of(np.array(nodes)), strict=True)
    ]
    named: list[dict[str, Any]] = [
        {"a": whole.name_of(a), "b": whole.name_of(b), "value": round(value, 5)}
        for a, b, value in edges
    ]
    if across:
        pairs = _counterparts(atlas, [one["feature_id"] for one in described], at_least)
        pairs = pairs[: max(_MOST_NODES - len(nodes), _LEAST_ACROSS)]
        described += _by_id(atlas, list(dict.fromkeys(pair["id"] for pair in pairs)))
        named += _pair_edges(pairs)
    return {**answer, "nodes": described, "edges": named, "truncated": truncated}


def _counterparts(atlas: Connection, ids: list[int], at_least: float) -> list[dict[str, Any]]:
    """The best counterpart of each feature in every other model, by r; the best pairs first."""
    return records(
        atlas,
        """
        select feature as a, counterpart as b, counterpart_id as id, r
        from counterparts
        where feature_id in (select unnest($ids::bigint[]))
        and model != counterpart_model and r >= $at_least and coalesce(q, 0) <= 0.05
        qualify row_number() over (
            partition by feature_id, counterpart_model order by r desc, counterpart_id
        ) = 1
        order by r desc, feature_id, counterpart_id
        """,
        {"ids": ids, "at_least": at_least},
    )


def _pair_edges(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"a": one["a"], "b": one["b"], "value": round(one["r"], 5), "across": True} for one in pairs
    ]


def _by_id(atlas: Connection, ids: list[int]) -> list[dict[str, Any]]:
    """Features that are not of the graph: of other models, of SAEs that are not linked, dead."""
    return records(
        atlas,
        """
        select
            feature, feature_id, models.name as model, feature_names.layer, label, density,
            null as community
        from feature_names
        join features using (feature_id)
        join saes on saes.sae_id = features.sae_id
        join models using (model_id)
        left join best_labels using (feature_id)
        where feature_id in (select unnest(?::bigint[]))
        order by feature_id
        """,
        [ids],
    )


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
                for a, b, value in whole.edges_of(near, direction):
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
