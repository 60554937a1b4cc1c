"""End-to-end training: what counts is what the model predicts, not how near its activations are.

Braun et al. 2024 (arXiv 2405.12241): the SAE's reconstruction takes the activations' place in a
forward pass, and the loss of fidelity is the divergence KL(p ‖ p̂) of the predictions p̂ from those
of the model as it is, averaged over the tokens, beside the SAE's own sparsity. The gradient by the
reconstructions is all that an architecture is told of it (`Trainee.step`, `by_output`).

A step is one batch of contexts in the order of the corpus: every step needs a forward and a
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
from atlas.ingest.contexts import Batch, ContextStream, batches
from atlas.ingest.models import HookPoint, LanguageModel
from atlas.ingest.record import Records
from atlas.ingest.training import Spec, Trained, Training
from atlas.progress import Progress
from atlas.workers import run_here

_SAMPLE = 2**14
"""Tokens from which conventions and first weights are chosen; the first ones trained on."""


def train_end_to_end(
    model: LanguageModel,
    specs: Sequence[Spec],
    stream: ContextStream,
    folder: Path,
    progress: Progress,
    *,
    checkpoint_seconds: float = 30.0,
    record: Callable[[Records], None] | None = None,
) -> dict[str, Trained]:
    """As `atlas.ingest.train.train_saes`, for SAEs of one hook point each.

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
            taken = _take(stream, config.batch_tokens, model.pad_id, training.tokens == 0)
            if training.tokens == 0:
                _begin(training, model, taken)
            for batch in taken:
                _step(training, model, batch)
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


def _take(stream: ContextStream, batch_tokens: int, pad_id: int, is_first: bool) -> list[Batch]:
    """The batches between two checkpoints: one, or at first enough of them for a sample."""
    taken, n_tokens = [], 0
    for batch in batches(stream, batch_tokens, pad_id):
        taken.append(batch)
        n_tokens += len(batch.token)
        if not is_first or n_tokens >= _SAMPLE:
            break
    return taken


def _begin(training: Training, model: LanguageModel, taken: Sequence[Batch]) -> None:
    read = [model.run(batch, training.points) for batch in taken]
    joined = [torch.cat(parts) for parts in zip(*read, strict=True)]
    block = dict(zip(training.points, joined, strict=True))
    rows = torch.arange(len(joined[0]), device=model.device)
    for key, trainee in training.trainees.items():
        trainee.begin(*training.specs[key].gather(block, rows))


def _step(training: Training, model: LanguageModel, batch: Batch) -> None:
    """One step of everyone on a batch."""
    found = model.run(batch, training.points)
    block = dict(zip(training.points, found, strict=True))
    rows = torch.arange(len(batch.token), device=model.device)
    clean, _ = model.log_probs(batch)
    tokens = training.tokens + len(batch.token)
    for key, trainee in training.trainees.items():
        spec = training.specs[key]
        by_output = partial(_gradient, model, batch, spec.points[0], clean)
        x, y = spec.gather(block, rows)
        run_here(trainee.step(x, y, spec.config.moment(training.tokens), by_output))
        training.report(key, training.tokens, tokens, last=tokens >= spec.config.train_tokens)
    training.tokens = tokens


def _gradient(
    model: LanguageModel, batch: Batch, point: HookPoint, clean: Tensor, y_hat: Tensor
) -> Tensor:
    """Of the mean divergence of the predictions by the reconstructions ŷ (n, d), for each of them.

    clean: log-probabilities (m, n_vocab) of the model as it is.
    """
    with torch.enable_grad():
        leaf = y_hat.detach().requires_grad_()
        spliced, _ = model.log_probs(batch, {point: lambda _: leaf})
        divergence = torch.nn.functional.kl_div(
            spliced, clean, reduction="batchmean", log_target=True
        )
        (gradient,) = torch.autograd.grad(divergence, leaf)
    return gradient
