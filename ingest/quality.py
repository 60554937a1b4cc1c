"""How faithful an SAE is on the reference corpus: every metric of `sae_metrics`, each defined here.

x is the model's activation at the hook point, x̂ the SAE's reconstruction, both in the model's own
units, n the tokens of the reference corpus; BOS and padding count nowhere.

Over all tokens of the reference corpus (`reconstruction_metrics`):

    l0                  mean number of active features of a token
    dead_share          share of features that are active on no token
    explained_variance  1 − Σ‖x − x̂‖² / Σ‖x − x̄‖², x̄ being the mean of x
    mse                 Σ‖x − x̂‖² / (n d)
    cosine              mean of x·x̂ / (‖x‖ ‖x̂‖), 0 where one of them is zero
    l2_ratio            mean of ‖x̂‖ / ‖x‖, over the tokens where x is not zero

Over `ce_tokens` predictions in contexts spread evenly over the corpus, for models that predict the
next token (`cross_entropies`):

    ce                  mean cross entropy of the model as it is, in nats
    ce_spliced          the same with x̂ in the place of x
    ce_zero             the same with zeros in the place of x
    ce_recovered        (ce_zero − ce_spliced) / (ce_zero − ce); absent where zeros do no harm
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from atlas.ingest.contexts import Context, batches, by_length, stream_contexts
from atlas.ingest.forwards import Forwards
from atlas.ingest.models import HookPoint, LanguageModel
from atlas.ingest.parts import Parts
from atlas.ingest.tokens import TokenStream
from atlas.progress import Progress, Silent
from atlas.sae import SaeWeights

CE_TOKENS = 1 << 14
"""Tokens that cross entropies are measured on: enough for a standard error of `ce_recovered` of a
few thousandths, since the same tokens are predicted three times."""


def reconstruction_sums(x: torch.Tensor, x_hat: torch.Tensor) -> dict[str, NDArray[np.float64]]:
    """The sums behind `reconstruction_metrics` over tokens, x and x̂ float32 (n, d); they add up."""
    norm, norm_hat = x.norm(dim=1).double(), x_hat.norm(dim=1).double()
    dot = (x * x_hat).sum(dim=1).double()
    there = norm > 0
    tiny = torch.finfo(torch.float64).tiny
    sums = {
        "n": norm.new_tensor([len(x)]),
        "x": x.sum(dim=0, dtype=torch.float64),
        "x2": norm.square().sum()[None],
        "error2": (x - x_hat).square().sum(dim=1).double().sum()[None],
        "cosine": (dot / (norm * norm_hat).clamp(min=tiny)).sum()[None],
        "ratio": (norm_hat / norm.clamp(min=tiny))[there].sum()[None],
        "n_ratio": there.sum()[None].double(),
    }
    return {name: tensor.cpu().numpy() for name, tensor in sums.items()}


def add_sums(several: Sequence[dict[str, NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
    """Sums of batches or chunks, added one after another."""
    totals = dict(several[0])
    for sums in several[1:]:
        totals = {name: total + sums[name] for name, total in totals.items()}
    return totals


def reconstruction_metrics(parts: Parts) -> dict[str, float]:
    """The metrics over all tokens, from the sums that `encode_reference` left with the parts."""
    sums = parts.sums()
    n_active = parts.n_active()
    n, n_ratio = sums["n"].item(), sums["n_ratio"].item()
    x, error2 = sums["x"], sums["error2"].item()
    variance = sums["x2"].item() - float(x @ x) / n
    metrics = {
        "l0": float(n_active.sum()) / n,
        "dead_share": float((n_active == 0).mean()),
        "mse": error2 / (n * len(x)),
        "cosine": sums["cosine"].item() / n,
    }
    if variance > 0:
        metrics["explained_variance"] = 1 - error2 / variance
    if n_ratio:
        metrics["l2_ratio"] = sums["ratio"].item() / n_ratio
    return metrics


def cross_entropies(
    model: LanguageModel,
    saes: Mapping[HookPoint, SaeWeights],
    stream: TokenStream,
    context: int,
    folder: Path,
    progress: Progress | None = None,
    max_tokens: int = CE_TOKENS,
    batch_tokens: int = 1 << 11,
) -> dict[HookPoint, dict[str, float]]:
    """The metrics of cross entropy of each SAE; empty ones for a model that is not causal.

    One SAE at a time is spliced in, with the model as it is around it. Finished values are kept in
    `folder`/ce-*.json, so that a killed run goes on with the next SAE.
    """
    if not model.is_causal:
        return {point: {} for point in saes}
    chosen = by_length(_spread(list(stream_contexts(stream, context, model.bos_id)), max_tokens))

    read = list(batches(chosen, batch_tokens, model.pad_id))
    forwards = Forwards(model, list(saes))

    def mean(point: HookPoint | None, sae: SaeWeights | None) -> tuple[float, int]:
        splice = None if point is None else {point: _zeros if sae is None else _through(sae)}
        total, n = forwards.losses(read, splice)
        return (total / n if n else 0.0), n

    def measure(point: HookPoint | None) -> dict[str, float]:
        if point is None:
            plain, n = mean(None, None)
            return {"ce": plain, "ce_tokens": float(n)}
        return {"ce_spliced": mean(point, saes[point])[0], "ce_zero": mean(point, None)[0]}

    with (progress or Silent()).task("cross entropy", len(saes) + 1, "SAEs") as task:
        found: dict[HookPoint | None, dict[str, float]] = {}
        for point in (None, *saes):
            path = folder / f"ce-{point or 'plain'}.json"
            if not path.exists():
                _write_json(path, measure(point))
            found[point] = json.loads(path.read_text("utf-8"))
            task.advance()
    plain = found[None]
    if not plain["ce_tokens"]:
        return {point: {} for point in saes}
    metrics = {}
    for point in saes:
        metrics[point] = plain | found[point]
        harm = found[point]["ce_zero"] - plain["ce"]
        if harm > 0:
            recovered = found[point]["ce_zero"] - found[point]["ce_spliced"]
            metrics[point]["ce_recovered"] = recovered / harm
    return metrics


def _spread(contexts: list[Context], max_tokens: int) -> list[Context]:
    """Contexts at even distances that hold about `max_tokens` tokens together, or all of them."""
    n_tokens = sum(len(context.ids) for context in contexts)
    if n_tokens <= max_tokens:
        return contexts
    n = max(1, len(contexts) * max_tokens // n_tokens)
    return [contexts[(2 * i + 1) * len(contexts) // (2 * n)] for i in range(n)]


def _zeros(x: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(x)


def _through(sae: SaeWeights) -> Callable[[torch.Tensor], torch.Tensor]:
    """The splice x → x̂."""
    return lambda x: sae.decode(sae.encode(x))


def _write_json(path: Path, values: Mapping[str, float]) -> None:
    """Atomically; Python writes and reads floats without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("w", encoding="utf-8") as stream:
        json.dump(values, stream)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(path)
