"""/api/graph: the part of a layered graph that is in view, as features or as bands of them.

A window is a range of layers and of positions. Up to a limit its features come with their edges;
beyond that, as in any map, only how many there are, in equal bands of each layer, and how many
edges run between bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.web.communities import Members, members_of, of_place
from atlas.web.given import Given
from atlas.web.labels import Labels, labels_of
from atlas.web.layered import KEPT, Layered, Step, layered
from atlas.web.measures import AT_LEAST, asked_measure
from atlas.web.places import Place, asked_place
from atlas.web.viewed import Connection, Viewed

_MOST_NODES = 20_000
_MOST_BINS = 512
_MOST_FLOWS = 4000
_MOST_FOUND = 1000


def graph(viewed: Viewed, atlas: Connection, given: Given) -> dict[str, Any]:
    """One window of a graph."""
    place = asked_place(viewed, atlas, given)
    measure, at_least = asked_measure(given)
    whole = layered(viewed, atlas, place, measure)
    clustering = of_place(viewed, atlas, place, measure, given.optional("clustering"))
    limit = given.integer("limit", 2000, 1, _MOST_NODES)
    numbers = [sae.layer for sae in place.saes]
    y0 = min(max(given.number("y0", 0.0), 0.0), 1.0)
    window = _Window(
        whole,
        at_least=at_least,
        top=given.integer("top", 3, 1, 1 << 30),
        first=_index(numbers, given.integer("from_layer", numbers[0], 0, 1 << 30)),
        last=_index(numbers, given.integer("to_layer", numbers[-1], 0, 1 << 30)),
        y0=y0,
        y1=max(min(given.number("y1", 1.0), 1.0), y0),
    )
    labels = labels_of(viewed, atlas, place)
    members = members_of(viewed, atlas, place, clustering)
    near = window.n_nodes <= limit
    drawn: dict[str, Any] = {"nodes": [], "edges": [], "bands": [], "flows": []}
    if near:
        drawn["nodes"] = _nodes(window, labels, members)
        drawn["edges"] = _edges(window, 2 * limit)
    else:
        bins = drawn["bins"] = given.integer("bins", 96, 1, _MOST_BINS)
        drawn["bands"] = _bands(window, members, bins)
        drawn["flows"] = _flows(window, bins)
    found = (given.optional("find") or "").split(",")
    return {
        **_described(window),
        "clustering": clustering,
        "totals": {"nodes": window.n_nodes, "edges": window.n_edges},
        "complete": near
        and window.n_nodes == len(whole.feature_id)
        and len(drawn["edges"]) == window.n_edges,
        **drawn,
        "found": _found(whole, labels, [one for one in found if one.isdigit()][:_MOST_FOUND]),
    }


def graph_of(
    viewed: Viewed, atlas: Connection, place: Place, measure: str, ids: set[int]
) -> dict[str, Any]:
    """Some features and the edges between them, as if they were the whole graph.

    They stand in the same order, but evenly.
    """
    whole = layered(viewed, atlas, place, measure)
    window = _Window(whole, AT_LEAST[measure], KEPT, 0, len(place.saes) - 1, 0.0, 1.0)
    clustering = of_place(viewed, atlas, place, measure, None)
    members = members_of(viewed, atlas, place, clustering)
    nodes = _nodes(window, labels_of(viewed, atlas, place), members)
    nodes = [node for node in nodes if node["id"] in ids]
    edges = [one for one in _edges(window, window.n_edges) if {one["a"], one["b"]} <= ids]
    described = _described(window)
    y: dict[int, float] = {}
    for layer in described["layers"]:
        mine = [node["id"] for node in nodes if node["layer"] == layer["layer"]]
        layer["n"] = len(mine)
        y |= {feature_id: (i + 0.5) / len(mine) for i, feature_id in enumerate(mine)}
    for node in nodes:
        node["y"] = y[node["id"]]
    for edge in edges:
        edge["ya"], edge["yb"] = y[edge["a"]], y[edge["b"]]
    return {
        **described,
        "clustering": clustering,
        "totals": {"nodes": len(nodes), "edges": len(edges)},
        "complete": True,
        "nodes": nodes,
        "edges": edges,
        "bands": [],
        "flows": [],
        "found": [],
    }


@dataclass(frozen=True)
class _Window:
    """Part of a graph: layers first … last by index, positions [y0, y1), and which edges count."""

    graph: Layered
    at_least: float
    top: int
    """Edges towards the next layer that count of each feature, the strongest."""
    first: int
    last: int
    y0: float
    y1: float

    @cached_property
    def slices(self) -> dict[int, tuple[int, int]]:
        """Of each layer in view the nodes, [begin, end)."""
        begin = self.graph.begin
        found = {}
        for layer in range(self.first, self.last + 1):
            n = int(begin[layer + 1] - begin[layer])
            # y = (rank + ½) / n
            low, high = (int(np.ceil(y * n - 0.5)) for y in (self.y0, self.y1))
            found[layer] = (int(begin[layer]) + max(low, 0), int(begin[layer]) + min(high, n))
        return found

    @property
    def n_nodes(self) -> int:
        """How many nodes are in view."""
        return sum(end - begin for begin, end in self.slices.values())

    @cached_property
    def edges(self) -> list[tuple[Step, NDArray[np.int64]]]:
        """Of each step, the edges with an end in view."""
        return [(step, self._seen(step)) for step in self.graph.steps]

    @property
    def n_edges(self) -> int:
        """How many edges have an end in view."""
        return sum(len(seen) for _, seen in self.edges)

    def _seen(self, step: Step) -> NDArray[np.int64]:
        begin = self.graph.begin
        low, high = self.slices.get(step.lower, (0, 0))
        parts = []
        if low < high:
            start = begin[step.lower]
            parts.append(np.arange(step.of_a[low - start], step.of_a[high - start]))
        b_low, b_high = self.slices.get(step.lower + 1, (0, 0))
        if b_low < b_high:
            start = begin[step.lower + 1]
            arriving = step.by_b[step.of_b[b_low - start] : step.of_b[b_high - start]]
            a = step.a[arriving]
            parts.append(arriving[(a < low) | (a >= high)])
        if not parts:
            return np.empty(0, np.int64)
        seen: NDArray[np.int64] = np.concatenate(parts)
        return seen[(step.value[seen] >= self.at_least) & (step.rank[seen] <= self.top)]

    def bins_of(self, nodes: NDArray[Any], bins: int) -> NDArray[np.int64]:
        """The band of each node; below 0 or `bins` and above for those out of view."""
        share = (self.graph.y[nodes] - self.y0) / (self.y1 - self.y0)
        band: NDArray[np.int64] = np.floor(share * bins).astype(np.int64)
        return band


def _described(window: _Window) -> dict[str, Any]:
    """What graph and window these are."""
    place, begin = window.graph.place, window.graph.begin
    return {
        **place.described(),
        "measure": window.graph.measure,
        "at_least": window.at_least,
        "from_layer": place.saes[window.first].layer,
        "to_layer": place.saes[window.last].layer,
        "y0": window.y0,
        "y1": window.y1,
        "layers": [
            {"layer": sae.layer, "sae": sae.name, "n": int(n), "n_features": sae.d_sae}
            for sae, n in zip(place.saes, np.diff(begin), strict=True)
        ],
    }


def _index(numbers: list[int], layer: int) -> int:
    """The layer of that number, or the one before, or the first."""
    return max(int(np.searchsorted(numbers, layer, side="right")) - 1, 0)


def _nodes(window: _Window, labels: Labels, members: Members) -> list[dict[str, Any]]:
    whole = window.graph
    found = []
    for layer, (begin, end) in window.slices.items():
        sae = whole.place.saes[layer]
        comes, goes = whole.linked(layer)
        columns = zip(
            whole.feature_id[begin:end].tolist(),
            whole.y[begin:end].round(7).tolist(),
            whole.density[begin:end].tolist(),
            members.of(whole.feature_id[begin:end]).tolist(),
            (whole.after[begin:end] >= window.at_least).tolist(),
            (whole.before[begin:end] >= window.at_least).tolist(),
            strict=True,
        )
        for feature_id, y, density, community, passed, came in columns:
            label, score = labels.get(feature_id, (None, None))
            found.append(
                {
                    "id": feature_id,
                    "feature": f"{sae.name}/{feature_id - sae.first_feature_id}",
                    "layer": sae.layer,
                    "y": y,
                    "label": label,
                    "label_score": score,
                    "density": density,
                    "community": community if community >= 0 else None,
                    "passed": passed if goes else None,
                    "appearing": not came if comes else None,
                    "disappearing": not passed if goes else None,
                }
            )
    return found


def _edges(window: _Window, most: int) -> list[dict[str, Any]]:
    """The strongest edges with an end in view."""
    whole = window.graph
    a = np.concatenate([step.a[seen] for step, seen in window.edges])
    b = np.concatenate([step.b[seen] for step, seen in window.edges])
    value = np.concatenate([step.value[seen] for step, seen in window.edges])
    strongest = np.lexsort((b, a, -value))[:most]
    a, b, value = a[strongest], b[strongest], value[strongest]
    layers = np.array([sae.layer for sae in whole.place.saes])
    columns = {
        "a": whole.feature_id[a],
        "b": whole.feature_id[b],
        "layer_a": layers[whole.layer_of(a)],
        "layer_b": layers[whole.layer_of(b)],
        "ya": whole.y[a].round(7),
        "yb": whole.y[b].round(7),
        "value": value.round(5),
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _bands(window: _Window, members: Members, bins: int) -> list[dict[str, Any]]:
    """How many features each band holds, and of what kind."""
    whole = window.graph
    found = []
    for layer, (begin, end) in window.slices.items():
        band = window.bins_of(np.arange(begin, end), bins)
        comes, goes = whole.linked(layer)

        appears = (whole.before[begin:end] < window.at_least) & comes
        disappears = (whole.after[begin:end] < window.at_least) & goes
        counts, density, appearing, disappearing = (
            np.bincount(band, weight, minlength=bins).tolist()
            for weight in (None, whole.density[begin:end], appears, disappears)
        )
        common = _most_common(band, members.of(whole.feature_id[begin:end]))
        for bin, n in enumerate(counts):
            if n:
                community, n_community = common.get(bin, (None, 0))
                found.append(
                    {
                        "layer": whole.place.saes[layer].layer,
                        "bin": bin,
                        "n": n,
                        "density": density[bin] / n,
                        "appearing": int(appearing[bin]),
                        "disappearing": int(disappearing[bin]),
                        "community": community,
                        "share": n_community / n if n_community else None,
                    }
                )
    return found


def _most_common(
    band: NDArray[np.int64], community: NDArray[np.int64]
) -> dict[int, tuple[int, int]]:
    """Band → its most frequent community (-1 is none) and how often that occurs."""
    known = community >= 0
    if not known.any():
        return {}
    width = int(community.max()) + 1
    keys, counts = np.unique(band[known] * width + community[known], return_counts=True)
    order = np.lexsort((keys, -counts, keys // width))
    bands = keys[order] // width
    first = order[np.unique(bands, return_index=True)[1]]
    return {
        int(key // width): (int(key % width), int(n))
        for key, n in zip(keys[first], counts[first], strict=True)
    }


def _flows(window: _Window, bins: int) -> list[dict[str, Any]]:
    """How many edges run between bands; those with the largest sum of values, if there are many."""
    layers = [sae.layer for sae in window.graph.place.saes]
    columns = []
    for step, seen in window.edges:
        ends = step.lower, step.lower + 1
        if not window.slices.keys() >= set(ends):
            continue
        from_band, to_band = (window.bins_of(end[seen], bins) for end in (step.a, step.b))
        inside = (from_band >= 0) & (from_band < bins) & (to_band >= 0) & (to_band < bins)
        key = from_band[inside] * bins + to_band[inside]
        n = np.bincount(key)
        at = np.flatnonzero(n)
        total = np.bincount(key, step.value[seen][inside])[at]
        below, above = (np.full(len(at), layers[end]) for end in ends)
        columns.append((below, at // bins, above, at % bins, n[at], total))
    if not columns:
        return []
    *joined, total = (np.concatenate(part) for part in zip(*columns, strict=True))
    largest = np.argsort(-total, kind="stable")[:_MOST_FLOWS]
    joined.append((total / joined[-1]).round(5))
    names = ("layer_a", "bin_a", "layer_b", "bin_b", "n", "value")
    rows = zip(*(column[largest].tolist() for column in joined), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _found(whole: Layered, labels: Labels, ids: list[str]) -> list[dict[str, Any]]:
    """Where the features that were asked for stand, whatever the window."""
    found = []
    for feature_id in map(int, ids):
        node = whole.node_of(feature_id)
        if node is not None:
            layer = int(whole.layer_of(np.array(node)))
            found.append(
                {
                    "id": feature_id,
                    "feature": whole.name_of(node),
                    "layer": whole.place.saes[layer].layer,
                    "y": float(whole.y[node]),
                    "label": labels.get(feature_id, (None, None))[0],
                }
            )
    return found
