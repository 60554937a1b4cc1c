"""What features lose when an earlier one is ablated in the running model.

Ablating feature i of an SAE takes its part of the reconstruction out of the activations that the
SAE reads, x' = x - f_i(x) d_i, at every token: the other features and what the SAE does not
reconstruct (its error) stay. The model runs on from x', and a later SAE encodes what comes of it.
The effect on its feature j is the mean of f_j(x) - f_j(x') over tokens on which i is active and f_j
exceeds a hundredth of its maximum (Balcells et al., arXiv 2410.08869, who count tokens without i
too, on which nothing but attention can carry an effect).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atlas.errors import BadInput
from atlas.ingest.models.forwards import Forwards
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import Placed
from atlas.ingest.text.contexts import Batch, Context, batches
from atlas.sae import NORMALIZATIONS, SaeWeights, SparseCode

LEAST = 0.01
"""Share of its maximum that the downstream feature must exceed."""

_BATCH_TOKENS = 1 << 11
"""Positions read at once, padding included."""


@dataclass(frozen=True)
class Ablation:
    """A feature to ablate, one to watch, and where."""

    upstream: int
    """Index in its SAE, as `downstream`."""
    downstream: int
    least: float
    """Tokens count on which the downstream feature exceeds this, in its SAE's units."""
    contexts: NDArray[np.int64]
    """(n,) which of the contexts, each once."""


class Effect(NamedTuple):
    """Sums over the tokens that count."""

    n_tokens: int
    before: float
    """Activations of the downstream feature in the model as it is."""
    after: float


class _Row(NamedTuple):
    """A context to run with one feature ablated, for all ablations that want this."""

    upstream: int
    context: int
    ablations: list[int]


def check_ablatable(placed: Placed, name: str) -> None:
    """BadInput unless the dictionary is an SAE, whose features are parts of what it reads."""
    sites, _ = placed
    if not sites.same or len(sites.inputs) > 1:
        raise BadInput(
            f"{name} does not reconstruct the one place that it reads, so its features cannot be "
            "taken out of there; name SAEs."
        )


def measure_ablations(
    model: LanguageModel,
    upstream: Placed,
    downstream: Placed,
    ablations: Sequence[Ablation],
    contexts: Sequence[Context],
    report: Callable[[int], None] = lambda n: None,
) -> list[Effect]:
    """The effect of each ablation.

    upstream: an SAE; downstream: whatever reads the same model further on. Ablations of the same
    feature in the same context share a pass; each batch is also run as it is, in the same shape, so
    that what nothing reaches differs by nothing. `report` is told how many contexts were run.
    """
    rows = _rows(ablations, contexts)
    made = list(batches([contexts[row.context] for row in rows], _BATCH_TOKENS, model.pad_id))
    ends = np.cumsum([len(batch.input_ids) for batch in made])
    shares = [rows[end - len(batch.input_ids) : end] for batch, end in zip(made, ends, strict=True)]
    sums = np.zeros((len(made), 3, len(ablations)))

    def run(model: LanguageModel, i: int) -> None:
        sums[i] = _run(model, upstream, downstream, ablations, shares[i], made[i])

    Forwards(model).each(len(made), run, lambda i: report(len(shares[i])))
    n_tokens, before, after = sums.sum(axis=0)
    return [Effect(*one) for one in zip(n_tokens.astype(int).tolist(), before, after, strict=True)]


def _rows(ablations: Sequence[Ablation], contexts: Sequence[Context]) -> list[_Row]:
    """Every (feature, context) once, the longest contexts first."""
    wanted: dict[tuple[int, int], list[int]] = {}
    for number, one in enumerate(ablations):
        for context in one.contexts.tolist():
            wanted.setdefault((one.upstream, context), []).append(number)
    rows = [_Row(*key, numbers) for key, numbers in wanted.items()]
    return sorted(rows, key=lambda row: (-len(contexts[row.context]), row.upstream, row.context))


def _run(
    model: LanguageModel,
    upstream: Placed,
    downstream: Placed,
    ablations: Sequence[Ablation],
    rows: Sequence[_Row],
    batch: Batch,
) -> NDArray[np.float64]:
    """Tokens, sum before and sum after of each ablation in one batch: (3, n_ablations)."""
    sites, sae = upstream
    (point,) = sites.inputs
    lengths = batch.keep.sum(axis=1)
    feature = np.repeat([row.upstream for row in rows], lengths)
    reads = downstream[0].inputs
    with model.repeating(point, reads):
        x, *before = model.run(batch, [point, *reads])
        strength = _strengths(sae.encode(x), np.arange(len(feature)), feature, sae.d_sae)
        part = _contribution(
            sae, x, torch.from_numpy(feature).to(x.device), torch.from_numpy(strength).to(x)
        )
        after = model.run(batch, reads, {point: lambda activation: activation - part})
    # Each row's positions, once for every ablation that this row is for.
    begins = lengths.cumsum() - lengths
    number = np.repeat(
        [one for row in rows for one in row.ablations],
        [length for row, length in zip(rows, lengths, strict=True) for _ in row.ablations],
    )
    position = np.concatenate(
        [
            np.arange(begin, begin + length)
            for row, begin, length in zip(rows, begins, lengths, strict=True)
            for _ in row.ablations
        ]
    )
    watched = np.array([one.downstream for one in ablations])[number]
    least = np.array([one.least for one in ablations])[number]
    old, new = (
        _strengths(
            downstream[1].encode(torch.cat(read, dim=1)), position, watched, downstream[1].d_sae
        ).astype(np.float64)
        for read in (before, after)
    )
    counted = (strength[position] > 0) & (old > least)
    n = len(ablations)
    return np.stack(
        [
            np.bincount(number[counted], minlength=n),
            np.bincount(number[counted], old[counted], n),
            np.bincount(number[counted], new[counted], n),
        ]
    )


def _strengths(
    code: SparseCode, position: NDArray[np.int64], feature: NDArray[np.int64], d_sae: int
) -> NDArray[np.float32]:
    """How strong a feature is at a position, for several (n,) of both."""
    lengths = np.diff(code.offset.cpu().numpy())
    key = np.repeat(np.arange(len(lengths)), lengths) * d_sae + code.index.cpu().numpy()
    order = np.argsort(key)
    key, value = key[order], code.value.cpu().numpy()[order]
    asked = position * d_sae + feature
    at = np.minimum(np.searchsorted(key, asked), max(len(key) - 1, 0))
    if not len(key):
        return np.zeros(len(asked), np.float32)
    found: NDArray[np.float32] = np.where(key[at] == asked, value[at], np.float32(0))
    return found


def _contribution(sae: SaeWeights, x: Tensor, feature: Tensor, strength: Tensor) -> Tensor:
    """What a feature of each row of x (n, d) adds to its reconstruction, in the model's units.

    feature: int64 (n,); strength: float32 (n,) its activations. Where inputs are normalised one by
    one, the way back stretches what is added as it does the rest.
    """
    direction = sae.W_dec[feature] * (strength / sae.output_scale)[:, None]
    _, denormalize = NORMALIZATIONS[sae.normalize](x)
    part = denormalize(direction) - denormalize(torch.zeros_like(direction))
    return torch.where((strength == 0)[:, None], 0, part)
