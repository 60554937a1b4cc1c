"""Groups of contiguous, similar layers, which may share one SAE.

Ghilardi et al. 2024 (arXiv 2410.21508): the distance of two layers is the mean angle between their
activations of a token, over π; groups are merged by complete linkage. Here only neighbouring groups
are merged, so that every group is a run of layers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from atlas.ingest.models.forwards import Forwards
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint
from atlas.ingest.text.contexts import batches, stream_contexts
from atlas.ingest.text.tokens import TokenStream

_TOKENS = 1 << 13
"""Tokens whose angles are averaged: their mean is then known to a few thousandths."""


def similar_layers(
    model: LanguageModel,
    points: Sequence[HookPoint],
    n_groups: int,
    stream: TokenStream,
    context: int,
) -> list[tuple[HookPoint, ...]]:
    """The points, which are in layer order, as `n_groups` runs."""
    return merge_neighbours(points, angular_distances(model, points, stream, context), n_groups)


def angular_distances(
    model: LanguageModel, points: Sequence[HookPoint], stream: TokenStream, context: int
) -> NDArray[np.float64]:
    """Mean angle between the activations at each two points, over π: (n_points, n_points)."""
    found = []
    n_tokens = 0
    for batch in batches(stream_contexts(stream, context, model.bos_id), 1 << 11, model.pad_id):
        found.append(batch)
        n_tokens += len(batch.token)
        if n_tokens >= _TOKENS:
            break
    sums = [torch.empty(0)] * len(found)

    def add(i: int, activations: list[torch.Tensor]) -> None:
        units = torch.stack([F.normalize(x, dim=1) for x in activations])
        cosines = torch.einsum("ind,jnd->ijn", units, units).clamp(-1, 1)
        sums[i] = cosines.arccos().sum(2, dtype=torch.float64).cpu()

    Forwards(model, points).run(found, add)
    total: NDArray[np.float64] = (torch.stack(sums).sum(0) / (n_tokens * math.pi)).numpy()
    return total


def merge_neighbours(
    points: Sequence[HookPoint], distances: NDArray[np.float64], n_groups: int
) -> list[tuple[HookPoint, ...]]:
    """Merge the two neighbouring groups whose farthest members are nearest, until `n_groups`."""
    groups = [[i] for i in range(len(points))]
    while len(groups) > n_groups:
        farthest = [distances[np.ix_(a, b)].max() for a, b in itertools.pairwise(groups)]
        i = int(np.argmin(farthest))
        groups[i : i + 2] = [groups[i] + groups[i + 1]]
    return [tuple(points[i] for i in group) for group in groups]
