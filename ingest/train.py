"""Trains any number of dictionaries of one model at once, on one stream of its activations.

    contexts → language model → block of activations, shuffled → steps of everyone → next block

Nothing but parameters, optimizer states and the stream's position is alive between two blocks, so
checkpoints are made there; a run that goes on from any of them ends with the same bits as one that
was never interrupted. All randomness is a function of the seed and of a name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from atlas.errors import BadInput
from atlas.ingest.architectures import ARCHITECTURES
from atlas.ingest.contexts import Batch, ContextStream, batches
from atlas.ingest.forwards import Forwards
from atlas.ingest.models import HookPoint, LanguageModel
from atlas.ingest.sites import Sites, all_points
from atlas.ingest.trainee import Shape, TrainConfig, Trainee, seeded
from atlas.progress import Progress, Task
from atlas.sae import SaeWeights, read_tensors, write_tensors
from atlas.workers import Stage, n_workers, run_here, run_lanes

__all__ = ["Spec", "TrainConfig", "Trained", "train_saes"]

_SAMPLE = 2**15
"""Activations of the first block from which conventions and first weights are chosen."""

_REPORTS = 100
"""Entries of a training's record."""

_SHARED = ("train_tokens", "batch_tokens", "seed", "block_tokens", "block_bytes", "forward_tokens")
"""Settings that those who share a stream have in common."""

Block = Mapping[HookPoint, Tensor]


@dataclass(frozen=True)
class Spec:
    """One dictionary to train."""

    key: str
    """What it is called in this training: '3-resid_post-gated'."""
    members: tuple[Sites, ...]
    """Where it reads and writes; several where layers share one dictionary, which then learns from
    each of them in turn."""
    config: TrainConfig

    @property
    def points(self) -> tuple[HookPoint, ...]:
        """All hook points that it needs."""
        return all_points(self.members)

    def gather(self, block: Block, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Give x (n, d_in) and y (n, d_out) of those rows, int64 (n,), of a block."""
        if len(self.members) == 1:
            return self.members[0].gather(block, rows)
        n = len(self.members)
        read = [sites.gather(block, rows[i::n]) for i, sites in enumerate(self.members)]
        x, y = (torch.cat(parts) for parts in zip(*read, strict=True))
        return x, y


@dataclass(frozen=True)
class Trained:
    """What a training made of one spec."""

    weights: SaeWeights
    record: list[dict[str, float]]
    """Figures on the way: 'tokens' and what `Trainee.report` gave."""


def train_saes(
    model: LanguageModel,
    specs: Sequence[Spec],
    stream: ContextStream,
    folder: Path,
    progress: Progress,
    *,
    checkpoint_seconds: float = 30.0,
    record: Callable[[Mapping[str, list[dict[str, float]]]], None] | None = None,
) -> dict[str, Trained]:
    """Each spec's dictionary after exactly `train_tokens` tokens; on `model.device`.

    Checkpoints go to `folder`, at most one in `checkpoint_seconds` (times the seconds it takes to
    write one, where that is more than one), and are gone on with if they are there; `stream` is
    then put where it was. The last one stays, so that a call after the end returns the same SAEs.

    record: called after each block with the whole record of everyone.

    BadInput: settings that make no sense, activations that are not finite, a folder that cannot be
    written or holds another training.
    """
    for spec in specs:
        spec.config.check()
        if any(getattr(spec.config, s) != getattr(specs[0].config, s) for s in _SHARED):
            raise BadInput(f"SAEs that share a stream must agree on {', '.join(_SHARED)}.")
    shared = specs[0].config
    training = _Training.new(model, specs)
    file = folder / "checkpoint.safetensors"
    if file.exists():
        training.load(file, stream)
    points = tuple(dict.fromkeys(point for spec in specs for point in spec.points))
    blocks = _Blocks(model, points, stream, shared)
    saved_at, save_took = time.monotonic(), 0.0
    with progress.task("training SAEs", shared.train_tokens, "tokens") as task:
        task.advance(training.tokens)
        while training.tokens < shared.train_tokens:
            # No name for the block: it must be gone before the next one is filled.
            training.consume(blocks.next(shared.train_tokens - training.tokens, task), task)
            if record is not None:
                record(training.records)
            now = time.monotonic()
            finished = training.tokens == shared.train_tokens
            if finished or now - saved_at >= checkpoint_seconds * max(1.0, save_took):
                training.save(file, stream)
                saved_at = time.monotonic()
                save_took = saved_at - now
    return {
        key: Trained(trainee.weights(), training.records[key])
        for key, trainee in training.trainees.items()
    }


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

    def next(self, most: int, task: Task) -> Block:
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
        return dict(zip(self._points, block, strict=True))


@dataclass
class _Training:
    """All that is alive between two blocks, but for the stream."""

    specs: dict[str, Spec]
    trainees: dict[str, Trainee]
    device: torch.device
    tokens: int = 0
    blocks: int = 0
    records: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    @classmethod
    def new(cls, model: LanguageModel, specs: Sequence[Spec]) -> _Training:
        return cls(
            {spec.key: spec for spec in specs},
            {spec.key: _trainee(model, spec) for spec in specs},
            model.device,
            records={spec.key: [] for spec in specs},
        )

    @property
    def config(self) -> TrainConfig:
        """For what is shared."""
        return next(iter(self.specs.values())).config

    def consume(self, block: Block, task: Task) -> None:
        """Train everyone on all tokens of a block, in the same shuffled order."""
        n = len(next(iter(block.values())))
        order = torch.randperm(n, generator=seeded(self.config.seed, "block", self.blocks))
        order = order.to(self.device)
        if self.blocks == 0:
            sample = order[:_SAMPLE]
            self._run(
                iter([[partial(_begin, trainee, self.specs[key], block, sample)]])
                for key, trainee in self.trainees.items()
            )
        shares = order.tensor_split(-(-n // self.config.batch_tokens))
        # With an SAE for every core there is nothing to gain from cutting steps up.
        whole = self.device.type == "cpu" and len(self.trainees) >= n_workers()
        advance = partial(_advance, task, 1 / (2 * len(self.trainees)))
        self._run(self._lane(key, block, shares, whole, advance) for key in self.trainees)
        self.tokens += n
        self.blocks += 1
        explained = [record[-1]["explained_variance"] for record in self.records.values()]
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
        key: str,
        block: Block,
        shares: Sequence[Tensor],
        whole: bool,
        advance: Callable[[int], None],
    ) -> Iterator[Stage]:
        """The steps of one SAE on a block; whole: each is one job."""
        trainee, spec, record = self.trainees[key], self.specs[key], self.records[key]
        tokens = self.tokens
        for i, share in enumerate(shares):
            step = partial(_step, trainee, spec, block, share, tokens)
            if whole:
                yield [partial(_run_whole, step)]
            else:
                yield from step()
            # A report at the end of each hundredth of the training, and of each block.
            before, tokens = tokens, tokens + len(share)
            every = spec.config.train_tokens / _REPORTS
            if before // every != tokens // every or i == len(shares) - 1:
                record.append({"tokens": tokens} | trainee.report())
            advance(len(share))

    def save(self, file: Path, stream: ContextStream) -> None:
        """Write a checkpoint, whole or not at all."""
        tensors = {
            f"{key}/{name}": tensor
            for key, trainee in self.trainees.items()
            for name, tensor in trainee.state().items()
        }
        counts = {"tokens": self.tokens, "blocks": self.blocks, "stream": stream.state()}
        counts |= {"records": self.records, "of": self._identity()}
        write_tensors(file, tensors, {"training": json.dumps(counts)})

    def load(self, file: Path, stream: ContextStream) -> None:
        """Go to a checkpoint, and put the stream where it was."""
        tensors, metadata = read_tensors(file)
        found = json.loads(metadata.get("training", "{}"))
        if found.get("of") != self._identity():
            raise BadInput(f"{file} is a checkpoint of another training; delete it to begin anew.")
        for key, trainee in self.trainees.items():
            own = f"{key}/"
            trainee.restore(
                {n.removeprefix(own): t for n, t in tensors.items() if n.startswith(own)}
            )
        self.tokens, self.blocks = found["tokens"], found["blocks"]
        self.records.update(found["records"])
        stream.restore(found["stream"])

    def _identity(self) -> list[str]:
        return [f"{key} {spec.config.fingerprint()}" for key, spec in self.specs.items()]


def _trainee(model: LanguageModel, spec: Spec) -> Trainee:
    architecture = ARCHITECTURES.get(spec.config.architecture)
    if architecture is None:
        raise BadInput(
            f"There is no SAE architecture {spec.config.architecture!r}; use one of "
            f"{', '.join(ARCHITECTURES)}."
        )
    sites = spec.members[0]
    shape = Shape(
        tuple(map(model.width, sites.inputs)), tuple(map(model.width, sites.outputs)), sites.same
    )
    return architecture.make(shape, spec.config, seeded(spec.config.seed, spec.key), model.device)


def _begin(trainee: Trainee, spec: Spec, block: Block, sample: Tensor) -> None:
    trainee.begin(*spec.gather(block, sample))


def _step(
    trainee: Trainee, spec: Spec, block: Block, share: Tensor, tokens: int
) -> Iterator[Stage]:
    x, y = spec.gather(block, share)
    return trainee.step(x, y, spec.config.moment(tokens))


def _run_whole(step: Callable[[], Iterator[Stage]]) -> None:
    run_here(step())


def _advance(task: Task, share: float, tokens: int) -> None:
    task.advance(tokens * share)
