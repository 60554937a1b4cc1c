"""Communities of a weighted graph: Leiden, Louvain, connected components; and what they are worth.

    leiden_modularity  Traag, Waltman & van Eck 2019, on modularity (Newman 2006): more weight
                       within communities than chance would put there
    leiden_cpm         the same on the constant Potts model (Traag, Van Dooren & Nesterov 2011):
                       two nodes of a community share the resolution or more on average, however
                       large the graph is, so that communities stay small
    louvain            Blondel et al. 2008, on modularity of directed graphs (Leicht & Newman
                       2008), in which chance keeps what leaves and what enters each node apart
    components         what is connected at all, whatever the direction

Balcells et al. 2024 (arXiv 2410.08869) use these four. The library of Leiden here knows no
direction; their constant Potts model counts ordered pairs, so that their resolution is half of what
it is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

Method = Literal["leiden_modularity", "leiden_cpm", "louvain", "components"]
METHODS: tuple[Method, ...] = get_args(Method)

Labels = NDArray[np.int32]
"""(n,) the community of each node: 0 is the largest; of equal ones that with the lowest node."""

_ROUNDS = 10
"""Of Leiden, each from where the last one ended; quality has settled by then to three digits."""


@dataclass(frozen=True)
class Graph:
    """A directed graph with at most one edge between two nodes, and no node without an edge."""

    n: int
    source: NDArray[np.int64]
    """(m,) from 0 to n - 1, as `target`."""
    target: NDArray[np.int64]
    weight: NDArray[np.float64]
    """(m,) above 0."""

    @cached_property
    def undirected(self) -> scipy.sparse.csr_array:
        """The symmetric matrix (n, n) of weights, its rows' columns ascending."""
        ends = np.concatenate([self.source, self.target])
        others = np.concatenate([self.target, self.source])
        both = np.concatenate([self.weight, self.weight])
        matrix = scipy.sparse.coo_array((both, (ends, others)), shape=(self.n, self.n)).tocsr()
        matrix.sort_indices()
        return matrix


def partition(graph: Graph, method: Method, resolution: float, seed: int) -> Labels:
    """The communities of a graph; the same for the same seed and version of the library.

    resolution: above 0, the higher the smaller communities become; nothing to components.
    """
    if not graph.n:
        return np.empty(0, np.int32)
    if method == "components":
        found = scipy.sparse.csgraph.connected_components(graph.undirected, directed=False)[1]
    elif method == "louvain":
        found = _louvain(graph, resolution, seed)
    else:
        found = _leiden(graph, resolution, seed, modularity=method == "leiden_modularity")
    return _numbered(found)


def quality(graph: Graph, labels: Labels, method: Method, resolution: float) -> float | None:
    """What the method makes as large as it can, for any partition; None for components.

    Of the edges' weights w, all together W, communities c hold within them w_c. n_c: nodes of one;
    k_c: weight of their edges' ends; γ: the resolution.

        leiden_modularity  Σ_c w_c / W − γ (k_c / 2W)²
        louvain            Σ_c w_c / W − γ k_c^out k_c^in / W²
        leiden_cpm         Σ_c (w_c − γ n_c (n_c − 1) / 2) / W
    """
    if method == "components" or not len(graph.weight):
        return None
    n_communities = int(labels.max()) + 1

    def sums(node: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.bincount(labels[node], graph.weight, n_communities).astype(np.float64)

    total = float(graph.weight.sum())
    inside = labels[graph.source] == labels[graph.target]
    within = float(graph.weight[inside].sum()) / total
    leaving, arriving = sums(graph.source), sums(graph.target)
    if method == "leiden_modularity":
        chance = float((((leaving + arriving) / (2 * total)) ** 2).sum())
    elif method == "louvain":
        chance = float((leaving * arriving).sum()) / total**2
    else:
        size = np.bincount(labels).astype(np.float64)
        chance = float((size * (size - 1)).sum()) / (2 * total)
    return within - resolution * chance


def _leiden(graph: Graph, resolution: float, seed: int, *, modularity: bool) -> NDArray[np.int64]:
    import graspologic_native

    matrix = graph.undirected
    _, found = graspologic_native.leiden_csr(
        matrix.indptr.astype(np.int64),
        matrix.indices.astype(np.int32),
        matrix.data,
        graph.n,
        resolution=resolution,
        iterations=_ROUNDS,
        use_modularity=modularity,
        seed=seed,
    )
    return np.fromiter((found[node] for node in range(graph.n)), np.int64, graph.n)


def _louvain(graph: Graph, resolution: float, seed: int) -> NDArray[np.int64]:
    import networkx as nx

    directed = nx.DiGraph()
    directed.add_nodes_from(range(graph.n))
    edges = zip(graph.source.tolist(), graph.target.tolist(), graph.weight.tolist(), strict=True)
    directed.add_weighted_edges_from(edges)
    found = np.empty(graph.n, np.int64)
    communities = nx.community.louvain_communities(directed, resolution=resolution, seed=seed)
    for number, members in enumerate(communities):
        found[list(members)] = number
    return found


def _numbered(found: NDArray[np.integer]) -> Labels:
    """The same communities in the order that `Labels` promises."""
    _, first, of, size = np.unique(
        found, return_index=True, return_inverse=True, return_counts=True
    )
    place = np.empty(len(size), np.int32)
    place[np.lexsort((first, -size))] = np.arange(len(size), dtype=np.int32)
    return place[of]
