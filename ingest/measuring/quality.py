"""How faithful an SAE is on the reference corpus: reconstruction, sparsity, and the model's losses.

What each number means is said in `sql/views/metrics.sql`, and only there. Whoever measures an SAE
gathers `dict[str, float]`, named as there, from

    reconstruction_metrics(parts)                       over all tokens, from the sums that
                                                        `encode_reference` left with the parts
    cross_entropies(model, saes, stream, context, …)    of every SAE, over tokens spread evenly;
                                                        empty for models that are not causal
    geometry.decoder_metrics(max_cosines(W_dec))        of the decoder alone
    functions.measure_functions(…)                      k-sparse probing and absorption, with the
                                                        tables `probes` and `absorptions`

A dictionary reads x and stands for y, with the reconstruction ŷ, all in the model's own units; an
SAE's y is its x. BOS and padding count nowhere.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atlas.ingest.measuring.losses import LossSums, loss_sums
from atlas.ingest.measuring.parts import Parts
from atlas.ingest.models.forwards import Forwards
from atlas.ingest.models.joint import JointText, Reader, members_of, reference_contexts
from atlas.ingest.models.sites import HookPoint, Placed, Sites
from atlas.ingest.text.contexts import Context, batches, by_length
from atlas.ingest.text.tokens import TokenStream
from atlas.progress import Progress, Silent

CE_TOKENS = 1 << 14
"""Tokens that cross entropies are measured on: enough for a standard error of `ce_recovered` of a
few thousandths, since the same tokens are predicted three times."""

DENSE = 0.1
"""A feature that is active on a larger share of the tokens is called dense."""

LEAST_TOKENS = 32
"""Of a batch with fewer tokens the variance is too rough to divide by."""

Sums = dict[str, NDArray[np.float64]]


def reconstruction_sums(y: Tensor, y_hat: Tensor) -> Sums:
    """The sums behind `reconstruction_metrics` of a batch, y and ŷ float32 (n, d); they add up.

    The squares about the mean are taken about the batch's own mean, in float32, and what this mean
    is from that of all tokens is put right in float64: models whose activations lie far from zero
    would lose their variance in Σ‖y‖² - ‖Σy‖² / n.
    """
    n = len(y)
    error = y - y_hat
    error2 = error.square().sum(1).double()
    norm, norm_hat = y.norm(dim=1).double(), y_hat.norm(dim=1).double()
    dot = (y * y_hat).sum(1).double()
    total, total_error = y.sum(0, dtype=torch.float64), error.sum(0, dtype=torch.float64)
    about_mean = (y - (total / max(n, 1)).float()).square().sum(1).double()
    there, varies = norm > 0, (about_mean > 0) & (n >= LEAST_TOKENS)
    tiny = torch.finfo(torch.float64).tiny
    sums = {
        "n": norm.new_tensor(n),
        "y": total,
        "within": about_mean.sum(),
        "between": total.square().sum() / max(n, 1),
        "error": total_error,
        "error2": error2.sum(),
        "cosine": (dot / (norm * norm_hat).clamp(min=tiny)).sum(),
        "ratio": (norm_hat / norm.clamp(min=tiny))[there].sum(),
        "n_ratio": there.sum(),
        "dot": dot.sum(),
        "y_hat2": norm_hat.square().sum(),
        "explained": (1 - error2 / about_mean.clamp(min=tiny))[varies].sum(),
        "n_explained": varies.sum(),
    }
    return {name: np.atleast_1d(t.double().cpu().numpy()) for name, t in sums.items()}


def site_sums(y: Tensor, y_hat: Tensor, widths: Sequence[int]) -> Sums:
    """The same sums of each output point's part of y and ŷ alone, PLACE.NAME, if several lie there.

    widths: of the parts, which lie side by side.
    """
    if len(widths) == 1:
        return {}
    parts = zip(torch.split(y, list(widths), 1), torch.split(y_hat, list(widths), 1), strict=True)
    return {
        f"{place}.{name}": total
        for place, (part, part_hat) in enumerate(parts)
        for name, total in reconstruction_sums(part, part_hat).items()
    }


def add_sums(several: Sequence[Sums]) -> Sums:
    """Sums of batches or chunks, added one after another."""
    totals = dict(several[0])
    for sums in several[1:]:
        totals = {name: total + sums[name] for name, total in totals.items()}
    return totals


def reconstruction_metrics(parts: Parts) -> dict[str, float]:
    """Fidelity and sparsity over all tokens; what is not defined, as for constant y, is absent."""
    n_active, sums = parts.n_active(), parts.sums()
    n = float(sums["n"].item())
    return {
        "l0": float(n_active.sum()) / n,
        "dead_share": float((n_active == 0).mean()),
        "dense_share": float((n_active / n > DENSE).mean()),
        "tokens": n,
    } | fidelity(sums)


@dataclass(frozen=True)
class AtSite:
    """What is measured at one output point of an SAE."""

    spread: float | None
    """Root mean square distance of the activations from their mean; None of an input."""
    explained_variance: float | None
    """None where the activations do not vary, and of an input."""


def site_metrics(parts: Parts, n_outputs: int) -> list[AtSite]:
    """At each of an SAE's output points, in their order."""
    sums = parts.sums()
    found = []
    for place in range(n_outputs):
        own = f"{place}." if n_outputs > 1 else ""
        here = {
            name.removeprefix(own): total for name, total in sums.items() if name.startswith(own)
        }
        spread = math.sqrt(max(_variance(here), 0.0) / float(here["n"].item()))
        found.append(AtSite(spread, fidelity(here).get("explained_variance")))
    return found


def _variance(sums: Sums) -> float:
    """Σ‖y − ȳ‖² over all tokens."""
    y, n = sums["y"], float(sums["n"].item())
    return float(sums["within"].item()) + float(sums["between"].item()) - float(y @ y) / n


def fidelity(sums: Sums) -> dict[str, float]:
    """The metrics that `reconstruction_sums` of all tokens, added up, are enough for."""
    y, error = sums["y"], sums["error"]
    one = {name: float(total[0]) for name, total in sums.items()}
    n, error2 = one["n"], one["error2"]
    metrics = {"mse": error2 / (n * len(y)), "cosine": one["cosine"] / n}
    variance = _variance(sums)
    if variance > 0:
        metrics["fvu"] = error2 / variance
        metrics["explained_variance"] = 1 - metrics["fvu"]
        metrics["explained_variance_centred"] = 1 - (error2 - float(error @ error) / n) / variance
    if one["n_explained"]:
        metrics["explained_variance_per_token"] = one["explained"] / one["n_explained"]
    if one["n_ratio"]:
        metrics["l2_ratio"] = one["ratio"] / one["n_ratio"]
    if one["dot"] > 0:
        metrics["relative_reconstruction_bias"] = one["y_hat2"] / one["dot"]
    return metrics


def cross_entropies(
    model: Reader,
    saes: Mapping[str, Placed],
    stream: TokenStream | JointText,
    context: int,
    folder: Path,
    progress: Progress | None = None,
    max_tokens: int = CE_TOKENS,
    batch_tokens: int = 1 << 11,
) -> dict[str, dict[str, float]]:
    """The losses of models with each SAE spliced in (`atlas.ingest.measuring.losses`).

    saes: by their names within the model, on the model's device. stream: a joint text for an
    ensemble. The losses of a crosscoder are the means over its outputs; those in models that are
    not causal are left out, and where all are, there is nothing.

    Each batch's sums are kept in `folder`/losses-*.json, so that a killed run measures what is left
    and finds the same numbers, to the bit.
    """
    if not any(one.is_causal for one in members_of(model)):
        return {key: {} for key in saes}
    chosen = by_length(spread(list(reference_contexts(model, stream, context)), max_tokens))
    read = list(batches(chosen, batch_tokens, model.pad_id))
    paths = [folder / f"losses-{number:05d}.json" for number in range(len(read))]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    found: dict[int, LossSums] = {}

    with (progress or Silent()).task("losses", len(read), "batches") as task:
        task.advance(len(read) - len(missing))

        def measure(model: Reader, i: int) -> None:
            found[i] = loss_sums(model, saes, read[missing[i]])

        def done(i: int) -> None:
            write_json(paths[missing[i]], found.pop(i))
            task.advance()

        Forwards(model).each(len(missing), measure, done)
    several: list[LossSums] = [json.loads(path.read_text("utf-8")) for path in paths]
    return {key: _loss_metrics(several, key, sites) for key, (sites, _) in saes.items()}


def _loss_metrics(several: Sequence[LossSums], key: str, sites: Sites) -> dict[str, float]:
    """The metrics of one SAE from the sums of batches."""
    n = {model: sum(sums["n"][model] for sums in several) for model in several[0]["n"]}
    outputs = [point for point in sites.outputs if n.get(point.model)]
    if not outputs:
        return {}

    def mean(sums: Callable[[LossSums, HookPoint], float]) -> float:
        means = (sum(sums(one, point) for one in several) / n[point.model] for point in outputs)
        return sum(means) / len(outputs)

    clean = mean(lambda sums, point: sums["clean"][point.model])
    spliced = mean(lambda sums, point: sums["spliced"][key][str(point)])
    zero = mean(lambda sums, point: sums["zero"][str(point)])
    metrics = {
        "ce": clean,
        "ce_spliced": spliced,
        "ce_zero": zero,
        "kl": mean(lambda sums, point: sums["kl"][key][str(point)]),
        "ce_tokens": float(sum(n[model] for model in {point.model for point in outputs})),
    }
    if zero > clean:
        metrics["ce_recovered"] = (zero - spliced) / (zero - clean)
    return metrics


def spread(contexts: list[Context], max_tokens: int) -> list[Context]:
    """Contexts at even distances that hold about `max_tokens` tokens together, or all of them."""
    n_tokens = sum(len(context.ids) for context in contexts)
    if n_tokens <= max_tokens:
        return contexts
    n = max(1, len(contexts) * max_tokens // n_tokens)
    return [contexts[(2 * i + 1) * len(contexts) // (2 * n)] for i in range(n)]


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Atomically; Python writes and reads floats without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("w", encoding="utf-8") as stream:
        json.dump(values, stream)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(path)
