"""Trains any number of dictionaries at once, on one stream of activations.

    contexts → language model → block of activations, shuffled → steps of everyone → next block

Nothing but parameters, optimizer states and the stream's position is alive between two blocks, so
checkpoints are made there; a run that goes on from any of them ends with the same bits as one that
was never interrupted. All randomness is a function of the seed and of a name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from atlas.errors import BadInput
from atlas.ingest.models.forwards import Forwards
from atlas.ingest.models.joint import Reader
from atlas.ingest.models.sites import HookPoint
from atlas.ingest.text.contexts import Context, ContextStream, batches, by_length
from atlas.ingest.training.architectures.aligned import Aligned
from atlas.ingest.training.record import Records
from atlas.ingest.training.state import Block, Spec, Trained, Training
from atlas.ingest.training.trainee import TrainConfig, Trainee, seeded
from atlas.progress import Progress, Task
from atlas.workers import Stage, n_workers, run_here, run_lanes

_SAMPLE = 2**15
"""Activations of the first block from which conventions and first weights are chosen."""


def train_saes(
    model: Reader,
    specs: Sequence[Spec],
    stream: ContextStream,
    folder: Path,
    progress: Progress,
    *,
    checkpoint_seconds: float = 30.0,
    record: Callable[[Records], None] | None = None,
) -> dict[str, Trained]:
    """Each spec's dictionary after exactly `train_tokens` tokens; on `model.device`.

    Checkpoints go to `folder`, at most one in `checkpoint_seconds` (times the seconds it takes to
    write one, where that is more than one), and are gone on with if they are there; `stream` is
    then put where it was. The last one stays, so that a call after the end returns the same SAEs.

    record: called after each block with the whole record of everyone.

    BadInput: settings that make no sense, activations that are not finite, a folder that cannot be
    written or holds another training.
    """
    training = Training.new(model, specs)
    shared = training.config
    file = folder / "checkpoint.safetensors"
    if file.exists():
        training.load(file, stream)
    blocks = _Blocks(model, training.points, stream, shared)
    saved_at, save_took = time.monotonic(), 0.0
    with progress.task("training SAEs", shared.train_tokens, "tokens") as task:
        task.advance(training.tokens)
        while training.tokens < shared.train_tokens:
            # No name for the block: it must be gone before the next one is filled.
            _consume(training, blocks.next(shared.train_tokens - training.tokens, task), task)
            if record is not None:
                record(training.records)
            now = time.monotonic()
            finished = training.tokens == shared.train_tokens
            if finished or now - saved_at >= checkpoint_seconds * max(1.0, save_took):
                training.save(file, stream)
                saved_at = time.monotonic()
                save_took = saved_at - now
    return training.trained()


class _Blocks:
    """Blocks of activations, one after another: float32 (n, d) for each hook point."""

    def __init__(
        self,
        model: Reader,
        points: Sequence[HookPoint],
        stream: ContextStream,
        config: TrainConfig,
    ) -> None:
        self._model, self._points, self._stream, self._config = model, points, stream, config
        self._widths = [model.width(point) for point in points]
        bounded = config.block_bytes // (4 * sum(self._widths))
        self._most = max(1, min(config.block_tokens, bounded))
        self._forwards = Forwards(model, points)

    def next(self, most: int, task: Task) -> Block:
        """The next block, of at most `most` tokens.

        Where the last contexts do not fit, the rest of them is left out: the stream stands where
        the next block begins.
        """
        n = min(self._most, most)
        contexts: list[Context] = []
        counted = 0
        while counted < n:
            contexts.append(next(self._stream))
            counted += contexts[-1].n_counted
        # A block is shuffled in any case, and contexts of one length need no padding.
        in_order = by_length(contexts)
        taken = list(batches(in_order, self._config.forward_tokens, self._model.pad_id))
        ends = [0]
        for batch in taken:
            ends.append(min(ends[-1] + len(batch.token), n))
        block = [torch.empty((n, width), device=self._model.device) for width in self._widths]

        def keep(i: int, found: list[Tensor]) -> None:
            for rows, activations in zip(block, found, strict=True):
                rows[ends[i] : ends[i + 1]] = activations[: ends[i + 1] - ends[i]]

        def done(i: int) -> None:
            task.advance((ends[i + 1] - ends[i]) / 2)

        self._forwards.run(taken, keep, done)
        for point, rows in zip(self._points, block, strict=True):
            if not rows.isfinite().all():
                raise BadInput(
                    f"{self._model.name} gives NaN or infinite activations at {point} on the "
                    "training text; leave this layer out, or use another device."
                )
        return dict(zip(self._points, block, strict=True))


def _consume(training: Training, block: Block, task: Task) -> None:
    """Train everyone on all tokens of a block, in the same shuffled order."""
    n = len(next(iter(block.values())))
    order = torch.randperm(n, generator=seeded(training.config.seed, "block", training.blocks))
    order = order.to(training.device)
    if training.blocks == 0:
        sample = order[:_SAMPLE]
        _run(training.device, (_first(training, key, block, sample) for key in training.lanes))
    shares = order.tensor_split(-(-n // training.config.batch_tokens))
    # With an SAE for every core there is nothing to gain from cutting steps up.
    whole = training.device.type == "cpu" and len(training.lanes) >= n_workers()
    advance = partial(_advance, task, 1 / (2 * len(training.lanes)))
    lanes = (_lane(training, key, block, shares, whole, advance) for key in training.lanes)
    _run(training.device, lanes)
    training.tokens += n
    training.blocks += 1
    task.note(f"explained variance {training.explained_variance():.3f}")


def _run(device: torch.device, lanes: Iterable[Iterator[Stage]]) -> None:
    if device.type == "cpu":
        run_lanes(lanes)
        return
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")  # TF32, where the device has it
    try:
        for lane in lanes:
            run_here(lane)
    finally:
        torch.set_float32_matmul_precision(precision)


def _lane(
    training: Training,
    key: str,
    block: Block,
    shares: Sequence[Tensor],
    whole: bool,
    advance: Callable[[int], None],
) -> Iterator[Stage]:
    """The steps of one SAE on a block; whole: each is one job."""
    trainee, spec = training.lanes[key], training.specs[key]
    tokens = training.tokens
    for i, share in enumerate(shares):
        step = partial(_step, trainee, spec, block, share, tokens)
        if whole:
            yield [partial(_run_whole, step)]
        else:
            yield from step()
        before, tokens = tokens, tokens + len(share)
        training.report(key, before, tokens, last=i == len(shares) - 1)
        advance(len(share))


def _first(training: Training, key: str, block: Block, sample: Tensor) -> Iterator[Stage]:
    yield [partial(_begin, training.lanes[key], training.specs[key], block, sample)]


def _begin(trainee: Trainee | Aligned, spec: Spec, block: Block, sample: Tensor) -> None:
    trainee.begin(*spec.gather(block, sample))


def _step(
    trainee: Trainee | Aligned, spec: Spec, block: Block, share: Tensor, tokens: int
) -> Iterator[Stage]:
    x, y = spec.gather(block, share)
    return trainee.step(x, y, spec.config.moment(tokens))


def _run_whole(step: Callable[[], Iterator[Stage]]) -> None:
    run_here(step())


def _advance(task: Task, share: float, tokens: int) -> None:
    task.advance(tokens * share)
