"""End-to-end training: what counts is what the model predicts, not how near its activations are.

Braun et al. 2024 (arXiv 2405.12241): the SAE's reconstruction takes the activations' place in a
forward pass, and the loss of fidelity is the divergence KL(p ‖ p̂) of the predictions p̂ from those
of the model as it is, averaged over the tokens, beside the SAE's own sparsity. The gradient by the
reconstructions is all that an architecture is told of it (`Trainee.step`, `by_output`).

Alone and from the beginning this loss teaches slowly. Here, as in Karvonen 2025 (arXiv 2503.17272),
the first part of a training is on the square error, and the rest on both, the divergence's gradient
being given the length of the error's, so that rates and penalties need no other settings.

A step is one batch of whole contexts, drawn from a block of them: every step needs a forward and a
backward pass from the SAE's layer to the end, so nothing is gained from keeping activations.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from atlas.errors import BadInput
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint
from atlas.ingest.text.contexts import Batch, Context, ContextStream, batches
from atlas.ingest.training.record import Records
from atlas.ingest.training.state import Spec, Trained, Training
from atlas.ingest.training.trainee import seeded
from atlas.progress import Progress
from atlas.workers import run_here

_SAMPLE = 2**14
"""Tokens from which conventions and first weights are chosen."""


def train_end_to_end(
    model: LanguageModel,
    specs: Sequence[Spec],
    stream: ContextStream,
    folder: Path,
    progress: Progress,
    *,
    checkpoint_seconds: float = 30.0,
    record: Callable[[Records], None] | None = None,
    share: float = 0.5,
) -> dict[str, Trained]:
    """As `atlas.ingest.training.train.train_saes`, for SAEs of one hook point each.

    share: of the training, at its end, in which the divergence is a part of the loss.

    The last step may go beyond `train_tokens`: no context is cut. BadInput also where the model
    does not predict the next token.
    """
    if not model.is_causal:
        raise BadInput(
            f"--strategy end-to-end needs a model that predicts the next token, which "
            f"{model.name} ({model.model_type}) does not; leave the option out."
        )
    training = Training.new(model, specs)
    file = folder / "checkpoint.safetensors"
    if file.exists():
        training.load(file, stream)
    config = training.config
    saved_at = time.monotonic()
    with progress.task("training SAEs end to end", config.train_tokens, "tokens") as task:
        task.advance(training.tokens)
        while training.tokens < config.train_tokens:
            taken = _take(training, stream, model.pad_id)
            if training.tokens == 0:
                _begin(training, model, taken)
            for batch in taken:
                _step(training, model, batch, share)
                task.advance(len(batch.token))
            task.note(f"explained variance {training.explained_variance():.3f}")
            training.blocks += 1
            if record is not None:
                record(training.records)
            finished = training.tokens >= config.train_tokens
            if finished or time.monotonic() - saved_at >= checkpoint_seconds:
                training.save(file, stream)
                saved_at = time.monotonic()
    return training.trained()


def _take(training: Training, stream: ContextStream, pad_id: int) -> list[Batch]:
    """The batches between two checkpoints, each of contexts from many documents."""
    config = training.config
    wanted = min(config.block_tokens, config.train_tokens - training.tokens)
    taken: list[Context] = []
    while wanted > 0:
        taken.append(next(stream))
        wanted -= len(taken[-1].ids)
    generator = seeded(config.seed, "block", training.blocks)
    order = torch.randperm(len(taken), generator=generator).tolist()
    return list(batches((taken[i] for i in order), config.batch_tokens, pad_id))


def _begin(training: Training, model: LanguageModel, taken: Sequence[Batch]) -> None:
    read, n_tokens = [], 0
    for batch in taken:
        read.append(model.run(batch, training.points))
        n_tokens += len(batch.token)
        if n_tokens >= _SAMPLE:
            break
    joined = [torch.cat(parts) for parts in zip(*read, strict=True)]
    block = dict(zip(training.points, joined, strict=True))
    rows = torch.arange(len(joined[0]), device=model.device)
    for key, trainee in training.lanes.items():
        trainee.begin(*training.specs[key].gather(block, rows))


def _step(training: Training, model: LanguageModel, batch: Batch, share: float) -> None:
    """One step of everyone on a batch."""
    found = model.run(batch, training.points)
    block = dict(zip(training.points, found, strict=True))
    rows = torch.arange(len(batch.token), device=model.device)
    by_divergence = training.tokens >= (1 - share) * training.config.train_tokens
    clean = model.log_probs(batch)[0] if by_divergence else None
    tokens = training.tokens + len(batch.token)
    for key, trainee in training.lanes.items():
        spec = training.specs[key]
        x, y = spec.gather(block, rows)
        by_output = (
            partial(_gradient, model, batch, spec.points[0], clean, y)
            if clean is not None
            else None
        )
        run_here(trainee.step(x, y, spec.config.moment(training.tokens), by_output))
        training.report(key, training.tokens, tokens, last=tokens >= spec.config.train_tokens)
    training.tokens = tokens


def _gradient(
    model: LanguageModel, batch: Batch, point: HookPoint, clean: Tensor, y: Tensor, y_hat: Tensor
) -> Tensor:
    """Of the predictions' mean divergence and of the square error, by the reconstructions ŷ (n, d).

    clean: log-probabilities (m, n_vocab) of the model as it is. y: (n, d) what ŷ stands for. The
    error is the mean of ‖ŷ - y‖² in units of the variance of y.
    """
    with torch.enable_grad():
        leaf = y_hat.detach().requires_grad_()
        spliced, _ = model.log_probs(batch, {point: lambda _: leaf})
        divergence = torch.nn.functional.kl_div(
            spliced, clean, reduction="batchmean", log_target=True
        )
        (gradient,) = torch.autograd.grad(divergence, leaf)
    tiny = torch.finfo(y.dtype).tiny
    by_error = 2 * (y_hat - y) / (y - y.mean(0)).square().sum().clamp_min(tiny)
    both: Tensor = (by_error + gradient * (by_error.norm() / gradient.norm().clamp_min(tiny))) / 2
    return both
