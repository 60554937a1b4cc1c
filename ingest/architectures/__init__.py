"""The architectures that `--arch` names: what each is, where it is described, how it is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch

from atlas.ingest.architectures.settings import Setting
from atlas.ingest.architectures.topk import TopK
from atlas.ingest.trainee import Shape, TrainConfig, Trainee

__all__ = ["ARCHITECTURES", "Architecture", "Setting"]

Make = Callable[[Shape, TrainConfig, torch.Generator, torch.device], Trainee]


@dataclass(frozen=True)
class Architecture:
    """An entry of the registry."""

    name: str
    summary: str
    """One line."""
    source: str
    """Where it is described: authors, year, arXiv number."""
    make: Make
    """A new one in training."""
    reads: Literal["itself", "another", "several"] = "itself"
    """What it reconstructs: its input, another hook point's activation, or several points' at once
    from all of them."""
    settings: Mapping[str, Setting] = field(default_factory=dict)


def _registry(*entries: Architecture) -> dict[str, Architecture]:
    return {entry.name: entry for entry in entries}


ARCHITECTURES = _registry(
    Architecture(
        "topk",
        "the k largest pre-activations of each token",
        "Gao et al. 2024, arXiv 2406.04093",
        TopK,
    ),
)
"""By name, in the order in which they are listed."""
