"""Trains SAEs for many hook points of one model at once, on one stream of its activations.

    contexts → language model → block of activations, shuffled → steps of every SAE → next block

Nothing but parameters, optimizer states and the stream's position is alive between two blocks, so
checkpoints are made there; a run that goes on from any of them ends with the same bits as one that
was never interrupted. All randomness is a function of the seed and of a name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from atlas.errors import BadInput
from atlas.ingest.contexts import Batch, ContextStream, batches
from atlas.ingest.forwards import Forwards
from atlas.ingest.models import HookPoint, LanguageModel
from atlas.ingest.topk import TopK
from atlas.ingest.trainee import TrainConfig, Trainee, seeded
from atlas.progress import Progress, Task
from atlas.sae import SaeWeights, read_tensors, write_tensors
from atlas.workers import Stage, n_workers, run_here, run_lanes

__all__ = ["ARCHITECTURES", "TrainConfig", "train_saes"]

ARCHITECTURES: dict[str, Callable[[int, TrainConfig, torch.Generator, torch.device], Trainee]] = {
    "topk": TopK
}
"""What `--arch` names: (d_in, config, generator, device) → an SAE in training."""

_SAMPLE = 2**15
"""Activations of the first block from which conventions and first weights are chosen."""


def train_saes(
    model: LanguageModel,
    points: Sequence[HookPoint],
    stream: ContextStream,
    config: TrainConfig,
    folder: Path,
    progress: Progress,
    *,
    checkpoint_seconds: float = 30.0,
) -> dict[HookPoint, SaeWeights]:
    """One SAE for each hook point, after exactly `config.train_tokens` tokens; on `model.device`.

    Checkpoints go to `folder`, at most one in `checkpoint_seconds` (times the seconds it takes to
    write one, where that is more than one), and are gone on with if they are there; `stream` is
    then put where it was. The last one stays, so that a call after the end returns the same SAEs.

    BadInput: settings that make no sense, activations that are not finite, a folder that cannot be
    written or holds another training.
    """
    config.check()
    if config.architecture not in ARCHITECTURES:
        raise BadInput(
            f"There is no SAE architecture {config.architecture!r}; use one of "
            f"{', '.join(ARCHITECTURES)}."
        )
    training = _Training.new(model, points, config)
    file = folder / "checkpoint.safetensors"
    if file.exists():
        training.load(file, stream)
    blocks = _Blocks(model, points, stream, config)
    saved_at, save_took = time.monotonic(), 0.0
    with progress.task("training SAEs", config.train_tokens, "tokens") as task:
        task.advance(training.tokens)
        while training.tokens < config.train_tokens:
            # No name for the block: it must be gone before the next one is filled.
            training.consume(blocks.next(config.train_tokens - training.tokens, task), task)
            now = time.monotonic()
            finished = training.tokens == config.train_tokens
            if finished or now - saved_at >= checkpoint_seconds * max(1.0, save_took):
                training.save(file, stream)
                saved_at = time.monotonic()
                save_took = saved_at - now
    return {point: trainee.weights() for point, trainee in training.trainees.items()}


class _Blocks:
    """Blocks of activations, one after another: float32 (n, d) for each hook point."""

    def __init__(
        self,
        model: LanguageModel,
        points: Sequence[HookPoint],
        stream: ContextStream,
        config: TrainConfig,
    ) -> None:
        self._model, self._points, self._stream, self._config = model, points, stream, config
        self._widths = [model.width(point) for point in points]
        bounded = config.block_bytes // (4 * sum(self._widths))
        self._most = max(1, min(config.block_tokens, bounded))
        self._forwards = Forwards(model, points)

    def next(self, most: int, task: Task) -> list[Tensor]:
        """The next block, of at most `most` tokens.

        Where the last batch does not fit, the rest of it is left out: the stream stands where the
        next block begins.
        """
        n = min(self._most, most)
        taken: list[Batch] = []
        ends = [0]
        for batch in batches(self._stream, self._config.forward_tokens, self._model.pad_id):
            taken.append(batch)
            ends.append(min(ends[-1] + len(batch.token), n))
            if ends[-1] == n:
                break
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
        return block


@dataclass
class _Training:
    """All that is alive between two blocks, but for the stream."""

    config: TrainConfig
    trainees: dict[HookPoint, Trainee]
    device: torch.device
    tokens: int = 0
    blocks: int = 0

    @classmethod
    def new(
        cls, model: LanguageModel, points: Sequence[HookPoint], config: TrainConfig
    ) -> _Training:
        make = ARCHITECTURES[config.architecture]
        trainees = {
            point: make(model.width(point), config, seeded(config.seed, point), model.device)
            for point in points
        }
        return cls(config, trainees, model.device)

    def consume(self, block: list[Tensor], task: Task) -> None:
        """Train every SAE on all tokens of a block, in the same shuffled order."""
        n = len(block[0])
        order = torch.randperm(n, generator=seeded(self.config.seed, "block", self.blocks))
        order = order.to(self.device)
        trainees = list(self.trainees.values())
        pairs = list(zip(trainees, block, strict=True))
        if self.blocks == 0:
            sample = order[:_SAMPLE]
            self._run(iter([[partial(_begin, trainee, rows, sample)]]) for trainee, rows in pairs)
        shares = order.tensor_split(-(-n // self.config.batch_tokens))
        # With an SAE for every core there is nothing to gain from cutting steps up.
        whole = self.device.type == "cpu" and len(trainees) >= n_workers()
        advance = partial(_advance, task, 1 / (2 * len(trainees)))
        self._run(self._lane(trainee, rows, shares, whole, advance) for trainee, rows in pairs)
        self.tokens += n
        self.blocks += 1
        explained = [trainee.explained_variance() for trainee in trainees]
        task.note(f"explained variance {sum(explained) / len(explained):.3f}")

    def _run(self, lanes: Iterable[Iterator[Stage]]) -> None:
        if self.device.type == "cpu":
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
        self,
        trainee: Trainee,
        rows: Tensor,
        shares: Sequence[Tensor],
        whole: bool,
        advance: Callable[[int], None],
    ) -> Iterator[Stage]:
        """The steps of one SAE on a block; whole: each is one job."""
        tokens = self.tokens
        for share in shares:
            rate = self.config.rate(tokens, rows.shape[1])
            step = partial(_step, trainee, rows, share, rate)
            if whole:
                yield [partial(_run_whole, step)]
            else:
                yield from step()
            tokens += len(share)
            advance(len(share))

    def save(self, file: Path, stream: ContextStream) -> None:
        """Write a checkpoint, whole or not at all."""
        tensors = {
            f"{point}/{name}": tensor
            for point, trainee in self.trainees.items()
            for name, tensor in trainee.state().items()
        }
        counts = {"tokens": self.tokens, "blocks": self.blocks, "stream": stream.state()}
        write_tensors(file, tensors, {"training": json.dumps(counts | {"of": self._identity()})})

    def load(self, file: Path, stream: ContextStream) -> None:
        """Go to a checkpoint, and put the stream where it was."""
        tensors, metadata = read_tensors(file)
        found = json.loads(metadata.get("training", "{}"))
        if found.get("of") != self._identity():
            raise BadInput(f"{file} is a checkpoint of another training; delete it to begin anew.")
        for point, trainee in self.trainees.items():
            own = f"{point}/"
            trainee.restore(
                {n.removeprefix(own): t for n, t in tensors.items() if n.startswith(own)}
            )
        self.tokens, self.blocks = found["tokens"], found["blocks"]
        stream.restore(found["stream"])

    def _identity(self) -> list[str]:
        return [self.config.fingerprint(), *map(str, self.trainees)]


def _begin(trainee: Trainee, rows: Tensor, sample: Tensor) -> None:
    trainee.begin(rows.index_select(0, sample))


def _step(trainee: Trainee, rows: Tensor, share: Tensor, rate: float) -> Iterator[Stage]:
    return trainee.step(rows.index_select(0, share), rate)


def _run_whole(step: Callable[[], Iterator[Stage]]) -> None:
    run_here(step())


def _advance(task: Task, share: float, tokens: int) -> None:
    task.advance(tokens * share)
