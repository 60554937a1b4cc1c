"""What models lose on a batch where a dictionary's reconstruction takes the activations' place.

ŷ comes from the activations of the model as it is and takes the place of y at one output point at
a time, with the model as it is around it. For a dictionary over several models, an output's losses
are its own model's: ŷ, made of the activations of all, is put only where y was read, which may be
the last tokens of words alone, and the losses are those of all tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from atlas.ingest.models.joint import Ensemble, Reader
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint, Placed, all_points
from atlas.ingest.text.contexts import Batch

_AT_ONCE = 1 << 22
"""Probabilities that are compared at a time: 16 MiB of each temporary array."""


class LossSums(TypedDict):
    """Sums over the predictions of a batch; fit for JSON.

    Models go by `HookPoint.model`, points by how they print, SAEs by their keys.
    """

    n: dict[str, int]
    """How many predictions, by model."""
    clean: dict[str, float]
    """Losses of a model as it is, in nats."""
    zero: dict[str, float]
    """Losses with zeros at an output point."""
    spliced: dict[str, dict[str, float]]
    """By SAE, losses with its ŷ at an output point."""
    kl: dict[str, dict[str, float]]
    """By SAE, divergences with its ŷ at an output point."""


def loss_sums(model: Reader, saes: Mapping[str, Placed], batch: Batch) -> LossSums:
    """Of a causal model, or of those of an ensemble that are causal."""
    if isinstance(model, Ensemble):
        return _of_several(model, saes, batch)
    return _of_one(model, saes, batch)


def _nothing(saes: Mapping[str, Placed], models: list[str]) -> LossSums:
    outputs = {
        key: [str(point) for point in sites.outputs if point.model in models]
        for key, (sites, _) in saes.items()
    }
    return LossSums(
        n=dict.fromkeys(models, 0),
        clean=dict.fromkeys(models, 0.0),
        zero=dict.fromkeys((name for names in outputs.values() for name in names), 0.0),
        spliced={key: dict.fromkeys(names, 0.0) for key, names in outputs.items()},
        kl={key: dict.fromkeys(names, 0.0) for key, names in outputs.items()},
    )


def _reconstructed(
    model: Reader, placed: Placed, activations: Mapping[HookPoint, Tensor]
) -> dict[HookPoint, Tensor]:
    """ŷ float32 (n, width) at each output point."""
    sites, sae = placed
    x, _ = sites.gather(activations)
    widths = [model.width(point) for point in sites.outputs]
    parts = torch.split(sae.decode(sae.encode(x), x), widths, dim=1)
    return dict(zip(sites.outputs, parts, strict=True))


def _of_one(model: LanguageModel, saes: Mapping[str, Placed], batch: Batch) -> LossSums:
    sums = _nothing(saes, [""])
    points = all_points(sites for sites, _ in saes.values())
    outputs = dict.fromkeys(point for sites, _ in saes.values() for point in sites.outputs)
    # A part at a time, whose log-probabilities are kept while all SAEs are held against them.
    for part in model.divide(batch):
        activations: dict[HookPoint, Tensor] = {}
        expected, targets = model.log_probs(part, {p: _keep(activations, p) for p in points})
        sums["n"][""] += len(targets)
        sums["clean"][""] += _loss(expected, targets)
        for point in outputs:
            sums["zero"][str(point)] += float(model.loss(part, {point: torch.zeros_like})[0])
        for key, placed in saes.items():
            for point, y_hat in _reconstructed(model, placed, activations).items():
                got, _ = model.log_probs(part, {point: _put(y_hat)})
                sums["spliced"][key][str(point)] += _loss(got, targets)
                sums["kl"][key][str(point)] += _divergence(expected, got)
    return sums


def _of_several(models: Ensemble, saes: Mapping[str, Placed], batch: Batch) -> LossSums:
    points = all_points(sites for sites, _ in saes.values())
    activations = dict(zip(points, models.run(batch, points), strict=True))
    made = {key: _reconstructed(models, placed, activations) for key, placed in saes.items()}
    read = zip(models.names, models.members, (batch, *batch.beside), strict=True)
    causal = [(name, model, own) for name, model, own in read if model.is_causal]
    sums = _nothing(saes, [name for name, _, _ in causal])
    for name, model, own in causal:
        outputs = [
            (key, point, y_hat)
            for key, by_point in made.items()
            for point, y_hat in by_point.items()
            if point.model == name
        ]
        row, done = 0, 0
        for part in model.divide(_whole(own, model)):
            rows = slice(row, row + len(part.input_ids))
            counted = np.flatnonzero(own.keep[rows][part.keep])
            at, of = torch.from_numpy(counted).to(model.device), slice(done, done + len(counted))
            row, done = rows.stop, of.stop
            expected, targets = model.log_probs(part)
            sums["n"][name] += len(targets)
            sums["clean"][name] += _loss(expected, targets)
            for point in dict.fromkeys(point for _, point, _ in outputs):
                zeros = torch.zeros((len(counted), model.width(point)), device=model.device)
                got, _ = model.log_probs(part, {point: _put_at(at, zeros)})
                sums["zero"][str(point)] += _loss(got, targets)
            for key, point, y_hat in outputs:
                got, _ = model.log_probs(part, {point: _put_at(at, y_hat[of])})
                sums["spliced"][key][str(point)] += _loss(got, targets)
                sums["kl"][key][str(point)] += _divergence(expected, got)
    return sums


def _whole(batch: Batch, model: LanguageModel) -> Batch:
    """The same batch with all its text kept."""
    keep = batch.attention_mask.copy()
    keep[:, : model.bos_id is not None] = False
    return replace(batch, keep=keep, token=np.full(keep.sum(), -1), beside=())


def _keep(kept: dict[HookPoint, Tensor], point: HookPoint) -> Callable[[Tensor], Tensor]:
    """A splice that changes nothing and keeps what it sees."""

    def keep(activation: Tensor) -> Tensor:
        kept[point] = activation
        return activation

    return keep


def _put(instead: Tensor) -> Callable[[Tensor], Tensor]:
    """A splice that puts `instead` in the place of whatever is there."""
    return lambda _: instead


def _put_at(rows: Tensor, instead: Tensor) -> Callable[[Tensor], Tensor]:
    """A splice that puts `instead` (n, d) in the place of those rows, int64 (n,)."""
    return lambda activation: activation.index_copy(0, rows, instead)


def _loss(log_probs: Tensor, targets: Tensor) -> float:
    return -float(log_probs.gather(1, targets[:, None]).sum(dtype=torch.float64))


def _divergence(expected: Tensor, got: Tensor) -> float:
    """Sum over tokens of KL(expected ‖ got), both log-probabilities float32 (n, n_vocab)."""
    rows = max(1, _AT_ONCE // expected.shape[1])
    some = zip(torch.split(expected, rows), torch.split(got, rows), strict=True)
    return math.fsum(float((p.exp() * (p - q)).sum(dtype=torch.float64)) for p, q in some)
