"""A layered graph in memory: its live features in drawing order, and their strongest edges.

Read once for each measure and kept, since every view of the graph asks for another part of it, and
an answer must come within a frame or two of the reader's hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.web.order import layered_positions
from atlas.web.places import Link, Place
from atlas.web.viewed import Connection, Viewed, columns_of

KEPT = 10
"""Edges kept of each feature towards each side, the strongest."""


@dataclass(frozen=True)
class Step:
    """The edges from one layer to the next, by their upper end, the strongest first."""

    lower: int
    """Index of the upstream layer."""
    a: NDArray[np.int32]
    """(n_edges,) upstream node."""
    b: NDArray[np.int32]
    """(n_edges,) downstream node."""
    value: NDArray[np.float64]
    rank: NDArray[np.int64]
    """(n_edges,) place among a's edges, from 1."""
    of_a: NDArray[np.int64]
    """(n_lower + 1,): the edges of the i-th node of the lower layer are of_a[i] to of_a[i + 1]."""
    by_b: NDArray[np.int64]
    """(n_edges,): the same edges by their downstream end."""
    of_b: NDArray[np.int64]
    """(n_upper + 1,): those of the i-th node of the upper layer, places in by_b."""


@dataclass(frozen=True)
class Layered:
    """Nodes are numbered layer after layer and in the order in which they are drawn."""

    place: Place
    measure: str
    begin: NDArray[np.int64]
    """(n_layers + 1,): layer l has the nodes begin[l] to begin[l + 1]."""
    feature_id: NDArray[np.int64]
    """(n,)"""
    density: NDArray[np.float64]
    y: NDArray[np.float64]
    """(n,): (rank + ½) / n of its layer."""
    after: NDArray[np.float64]
    """(n,): value of its strongest edge to the next layer, -inf without one."""
    before: NDArray[np.float64]
    """(n,): value of its strongest edge from the layer before."""
    steps: tuple[Step, ...]

    def layer_of(self, nodes: NDArray[Any]) -> NDArray[np.int64]:
        """Index of the layer of each node."""
        found: NDArray[np.int64] = np.searchsorted(self.begin, nodes, side="right") - 1
        return found

    def node_of(self, feature_id: int) -> int | None:
        """The node of a feature, None if it is dead or of another graph."""
        layer = self.place.index_of(feature_id)
        if layer is None:
            return None
        mine = slice(self.begin[layer], self.begin[layer + 1])
        at = np.flatnonzero(self.feature_id[mine] == feature_id)
        return int(self.begin[layer] + at[0]) if len(at) else None

    def name_of(self, node: int) -> str:
        """The feature's name."""
        layer = int(self.layer_of(np.array(node)))
        sae = self.place.saes[layer]
        return f"{sae.name}/{int(self.feature_id[node]) - sae.first_feature_id}"

    def edges_of(self, node: int, direction: str) -> list[tuple[int, int, float]]:
        """A node's edges (a, b, value) to the next layer, 'down', or from the one before, 'up'."""
        layer = int(self.layer_of(np.array(node)))
        place = node - int(self.begin[layer])
        for step in self.steps:
            if direction == "down" and step.lower == layer:
                mine = np.arange(step.of_a[place], step.of_a[place + 1])
            elif direction == "up" and step.lower + 1 == layer:
                mine = step.by_b[step.of_b[place] : step.of_b[place + 1]]
            else:
                continue
            ends = step.a[mine].tolist(), step.b[mine].tolist()
            return list(zip(*ends, step.value[mine].tolist(), strict=True))
        return []

    def linked(self, layer: int) -> tuple[bool, bool]:
        """Whether the layer's edges from the one before, and to the next one, are known."""
        lowers = {step.lower for step in self.steps}
        return layer - 1 in lowers, layer in lowers


def layered(viewed: Viewed, atlas: Connection, place: Place, measure: str) -> Layered:
    """The graph of a place by one of `measures.AT_LEAST`."""
    return viewed.keep(("layered", place, measure), lambda own: _read(own, place, measure))


def _read(atlas: Connection, place: Place, measure: str) -> Layered:
    ids, density, begin = _nodes(atlas, place)
    edges = [_edges(atlas, link, measure) for link in place.links]
    # Numbered by feature_id first; features of an SAE lie together, those of layers need not.
    numbered = [(_numbers(ids, a), _numbers(ids, b), value) for a, b, value in edges]
    a, b, value = (np.concatenate(part) for part in zip(*numbered, strict=True))
    # Squared, so that a strong edge outweighs many weak ones.
    y = layered_positions(begin, a, b, value**2)
    layer = np.repeat(np.arange(len(place.saes)), np.diff(begin))
    order = np.lexsort((y, layer))
    place_of = np.empty(len(order), np.int32)
    place_of[order] = np.arange(len(order), dtype=np.int32)
    steps = tuple(
        _step(link.lower, place_of[a], place_of[b], value, begin)
        for link, (a, b, value) in zip(place.links, numbered, strict=True)
    )
    after, before = np.full((2, len(ids)), -np.inf)
    for step in steps:
        np.maximum.at(after, step.a, step.value)
        np.maximum.at(before, step.b, step.value)
    return Layered(
        place, measure, begin, ids[order], density[order], y[order], after, before, steps
    )


def _nodes(
    atlas: Connection, place: Place
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Ids and densities of the live features layer by layer, and where each layer begins."""
    ids, densities = [], []
    for sae in place.saes:
        found = columns_of(
            atlas,
            "select feature_id, density from features where sae_id = ? and alive"
            " order by feature_id",
            [sae.sae_id],
        )
        ids.append(found["feature_id"])
        densities.append(found["density"])
    begin = np.concatenate([[0], np.cumsum([len(one) for one in ids])])
    return np.concatenate(ids), np.concatenate(densities), begin


def _numbers(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of some ids among all."""
    ascending = np.argsort(ids, kind="stable")
    found: NDArray[np.int64] = ascending[np.searchsorted(ids, wanted, sorter=ascending)]
    return found


def _edges(
    atlas: Connection, link: Link, measure: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The strongest edges of each feature of a link, in either direction."""
    found = columns_of(
        atlas,
        f"""
        select feature_id_a, feature_id_b, {measure} as value
        from edges
        where link_id = $link and {measure} > 0
        qualify
            row_number() over (
                partition by feature_id_a order by {measure} desc, feature_id_b
            ) <= $kept
            or row_number() over (
                partition by feature_id_b order by {measure} desc, feature_id_a
            ) <= $kept
        order by feature_id_a, feature_id_b
        """,
        {"link": link.link_id, "kept": KEPT},
    )
    return found["feature_id_a"], found["feature_id_b"], found["value"]


def _step(
    lower: int,
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    value: NDArray[np.float64],
    begin: NDArray[np.int64],
) -> Step:
    order = np.lexsort((b, -value, a))
    a, b, value = a[order], b[order], value[order]
    of_a = np.searchsorted(a, np.arange(begin[lower], begin[lower + 1] + 1))
    by_b = np.argsort(b, kind="stable")
    of_b = np.searchsorted(b[by_b], np.arange(begin[lower + 1], begin[lower + 2] + 1))
    rank = np.arange(len(a)) - of_a[a - begin[lower]] + 1
    return Step(lower, a, b, value, rank, of_a, by_b, of_b)
