"""The state of a training: what is trained, how far it has come, and its checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from atlas.errors import BadInput
from atlas.ingest.models.joint import Reader
from atlas.ingest.models.sites import HookPoint, Sites, all_points
from atlas.ingest.text.contexts import ContextStream
from atlas.ingest.training.architectures import ARCHITECTURES
from atlas.ingest.training.architectures.aligned import Alignable, Aligned
from atlas.ingest.training.trainee import Shape, TrainConfig, Trainee, seeded
from atlas.sae import SaeWeights, read_tensors, write_tensors

_REPORTS = 100
"""Entries of a training's record."""

_SHARED = ("train_tokens", "batch_tokens", "seed", "block_tokens", "block_bytes", "forward_tokens")
"""Settings that those who share a stream have in common."""


Block = Mapping[HookPoint, Tensor]
"""Activations float32 (n, d) at each hook point, of the same n tokens."""


@dataclass(frozen=True)
class Spec:
    """One dictionary to train, or several ones that seek to agree."""

    key: str
    """What it is called in this training: '3-resid_post-gated'."""
    members: tuple[Sites, ...]
    """Where it reads and writes; several where layers share one dictionary, which then learns from
    each of them in turn."""
    config: TrainConfig
    aligned: tuple[str, ...] = ()
    """What several are called that are trained together, which differ by their seeds."""
    alignment: float = 0.0
    """The weight of their agreement."""

    @property
    def names(self) -> tuple[str, ...]:
        """What its dictionaries are called."""
        return self.aligned or (self.key,)

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
    """One dictionary that a training made."""

    weights: SaeWeights
    record: list[dict[str, float]]
    """Figures on the way: 'tokens' and what `Trainee.report` gave."""


@dataclass
class Training:
    """All that is alive between two steps, but for the stream."""

    specs: dict[str, Spec]
    lanes: dict[str, Trainee | Aligned]
    """By `Spec.key`, what takes steps."""
    trainees: dict[str, Trainee]
    """By name, the dictionaries in them."""
    device: torch.device
    tokens: int = 0
    blocks: int = 0
    records: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    @classmethod
    def new(cls, model: Reader, specs: Sequence[Spec]) -> Training:
        """At its beginning; BadInput for settings that make no sense."""
        for spec in specs:
            spec.config.check()
            if any(getattr(spec.config, s) != getattr(specs[0].config, s) for s in _SHARED):
                raise BadInput(f"SAEs that share a stream must agree on {', '.join(_SHARED)}.")
        trainees = {name: _trainee(model, spec, name) for spec in specs for name in spec.names}
        lanes = {spec.key: _lane(spec, [trainees[name] for name in spec.names]) for spec in specs}
        records: dict[str, list[dict[str, float]]] = {name: [] for name in trainees}
        return cls(
            {spec.key: spec for spec in specs}, lanes, trainees, model.device, records=records
        )

    @property
    def config(self) -> TrainConfig:
        """For what is shared."""
        return next(iter(self.specs.values())).config

    @property
    def points(self) -> tuple[HookPoint, ...]:
        """All hook points that are read, each once."""
        return tuple(dict.fromkeys(point for spec in self.specs.values() for point in spec.points))

    def report(self, key: str, before: int, tokens: int, last: bool) -> None:
        """After a step of one spec add to its record: in each hundredth of the training, and last.

        before, tokens: trained on before and after the step.
        """
        every = self.config.train_tokens / _REPORTS
        if before // every != tokens // every or last:
            lane = self.lanes[key]
            shared = lane.report() if isinstance(lane, Aligned) else {}
            for name in self.specs[key].names:
                entry = {"tokens": tokens} | self.trainees[name].report() | shared
                self.records[name].append(entry)

    def explained_variance(self) -> float:
        """Mean over everyone, as last reported."""
        explained = [record[-1]["explained_variance"] for record in self.records.values()]
        return sum(explained) / len(explained)

    def trained(self) -> dict[str, Trained]:
        """What it has made by now."""
        return {
            name: Trained(trainee.weights(), self.records[name])
            for name, trainee in self.trainees.items()
        }

    def save(self, file: Path, stream: ContextStream) -> None:
        """Write a checkpoint, whole or not at all."""
        tensors = {
            f"{key}/{name}": tensor
            for key, lane in self.lanes.items()
            for name, tensor in lane.state().items()
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
        for key, lane in self.lanes.items():
            own = f"{key}/"
            lane.restore({n.removeprefix(own): t for n, t in tensors.items() if n.startswith(own)})
        self.tokens, self.blocks = found["tokens"], found["blocks"]
        self.records.update(found["records"])
        stream.restore(found["stream"])

    def _identity(self) -> list[str]:
        return [f"{key} {spec.config.fingerprint()}" for key, spec in self.specs.items()]


def _lane(spec: Spec, trainees: Sequence[Trainee]) -> Trainee | Aligned:
    """What takes a spec's steps; BadInput for an architecture that cannot be aligned."""
    if not spec.aligned:
        return trainees[0]
    if not all(hasattr(trainee, "by_W_dec") for trainee in trainees):
        raise BadInput(
            f"--strategy feature-aligned cannot train {spec.config.architecture}; choose another "
            "architecture."
        )
    return Aligned(cast("Sequence[Alignable]", trainees), spec.alignment)


def _trainee(model: Reader, spec: Spec, name: str) -> Trainee:
    """A dictionary of that name, which is also its seed's."""
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
    return architecture.make(shape, spec.config, seeded(spec.config.seed, name), model.device)
