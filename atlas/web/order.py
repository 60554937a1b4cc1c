"""In which order a layered graph's nodes stand in their layers, so that strong edges are short.

Placing each node at the mean of its neighbours and taking ranks, over and over, is the barycentre
rule of layered drawing (Sugiyama, Tagawa and Toda 1981). By itself it shortens edges slowly and
leaves the picture folded. So the graph is made coarse first, each node joined with its strongest
neighbour until nothing is left to join; the coarsest is laid out, and every finer one starts where
the coarser one has put it (multilevel, after Koren and Harel 2002): O(edges) in all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

_SWEEPS = 3
"""More of them shorten the edges no further."""
_STEP = 0.5
"""How far a node moves towards its neighbours' mean in a sweep; all the way, layers just swap."""

Positions = NDArray[np.float64]
"""(n,), in (0, 1): (rank + ½) / n."""


def layered_positions(
    begin: NDArray[np.int64],
    a: NDArray[Any],
    b: NDArray[Any],
    weight: NDArray[np.float64],
) -> Positions:
    """Where each node stands in its layer, from 0 to 1. The same for the same graph.

    begin: (n_layers + 1,), layer l has the nodes begin[l] to begin[l + 1].
    a, b: (n_edges,) nodes that an edge joins, of different layers; each pair once.
    weight: (n_edges,), positive: how much its length counts.
    """
    n = int(begin[-1])
    layer = np.repeat(np.arange(len(begin) - 1), np.diff(begin))
    graph = _symmetric(n, a, b, weight)
    order = np.lexsort((_multilevel(graph, a, b, weight), layer))
    return _swept(graph, _by_layer(order, begin), begin)


def _multilevel(
    graph: csr_array, a: NDArray[Any], b: NDArray[Any], weight: NDArray[np.float64]
) -> Positions:
    """Positions of all nodes on one line; the edges a graph was made from come along."""
    n = graph.shape[0]
    n_joined, joined = _join(graph)
    if n_joined == n:
        return _by_layer(np.arange(n), np.array([0, n]))
    ends = joined[a], joined[b]
    apart = ends[0] != ends[1]
    low, high = np.minimum(*ends)[apart], np.maximum(*ends)[apart]
    merged = csr_array((weight[apart], (low, high)), shape=(n_joined, n_joined)).tocoo()
    # Divided by the sizes, or the largest group would be everybody's strongest neighbour.
    share = 1 / np.sqrt(np.bincount(joined, minlength=n_joined))
    by_size = merged.data * share[merged.row] * share[merged.col]
    joint = _symmetric(n_joined, merged.row, merged.col, by_size)
    coarse = _multilevel(joint, merged.row, merged.col, by_size)
    line = np.array([0, n])
    return _swept(graph, _by_layer(np.argsort(coarse[joined], kind="stable"), line), line)


def _join(graph: csr_array) -> tuple[int, NDArray[np.int32]]:
    """How many groups there are if every node goes with its strongest neighbour; each one's."""
    lengths = np.diff(graph.indptr)
    linked = np.flatnonzero(lengths)
    if not len(linked):
        return graph.shape[0], np.arange(graph.shape[0], dtype=np.int32)
    strongest = np.maximum.reduceat(graph.data, graph.indptr[linked])
    at = np.flatnonzero(graph.data == np.repeat(strongest, lengths[linked]))
    # The first of equals, so that the result is the same each time.
    first = at[np.searchsorted(at, graph.indptr[linked])]
    chosen = csr_array((np.ones(len(linked)), (linked, graph.indices[first])), shape=graph.shape)
    n_groups, group = connected_components(chosen, directed=False)
    return int(n_groups), group


def _swept(graph: csr_array, positions: Positions, begin: NDArray[np.int64]) -> Positions:
    """The positions after a few barycentre sweeps of all layers."""
    total = graph.sum(axis=1)
    linked = total > 0
    scale = np.divide(_STEP, total, out=np.zeros(len(total)), where=linked)
    rest = np.where(linked, 1 - _STEP, 1.0)
    layer = np.repeat(np.arange(len(begin) - 1), np.diff(begin))
    for _ in range(_SWEEPS):
        moved = scale * (graph @ positions) + rest * positions
        # One sort for all layers: positions are below 1, so a layer's stay together.
        positions = _by_layer(np.argsort(layer + moved * (1 - 1e-9), kind="stable"), begin)
    return positions


def _by_layer(order: NDArray[np.int64], begin: NDArray[np.int64]) -> Positions:
    """Positions of nodes that stand in this order, layer after layer."""
    sizes = np.diff(begin)
    rank = np.arange(len(order)) - np.repeat(begin[:-1], sizes)
    positions = np.empty(len(order))
    positions[order] = (rank + 0.5) / np.repeat(np.maximum(sizes, 1), sizes)
    return positions


def _symmetric(n: int, a: NDArray[Any], b: NDArray[Any], weight: NDArray[np.float64]) -> csr_array:
    ends = np.concatenate([a, b]), np.concatenate([b, a])
    return csr_array((np.concatenate([weight, weight]), ends), shape=(n, n))
