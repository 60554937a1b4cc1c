"""The architectures that `--arch` names: what each is, where it is described, how it is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch

from atlas.ingest.training.architectures.batchtopk import BatchTopK
from atlas.ingest.training.architectures.choice import FeatureChoice, MutualChoice
from atlas.ingest.training.architectures.crosscoder import Crosscoder
from atlas.ingest.training.architectures.gated import Gated
from atlas.ingest.training.architectures.jumprelu import JumpReLU
from atlas.ingest.training.architectures.matryoshka import Matryoshka
from atlas.ingest.training.architectures.p_anneal import PAnneal
from atlas.ingest.training.architectures.prolu import ProLU
from atlas.ingest.training.architectures.settings import Setting
from atlas.ingest.training.architectures.standard import Standard
from atlas.ingest.training.architectures.switch import Switch
from atlas.ingest.training.architectures.topk import TopK
from atlas.ingest.training.architectures.transcoder import SkipTranscoder
from atlas.ingest.training.trainee import Shape, TrainConfig, Trainee

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
        "standard",
        "ReLU with an L1 penalty on activations times decoder norms",
        "Conerly et al. 2024, Circuits Updates of April 2024; Bricken et al. 2023",
        Standard,
        settings=Standard.SETTINGS,
    ),
    Architecture(
        "gated",
        "a gate trained with L1 decides which latents are active, and not how strongly",
        "Rajamanoharan et al. 2024, arXiv 2404.16014",
        Gated,
        settings=Gated.SETTINGS,
    ),
    Architecture(
        "jumprelu",
        "a threshold for each latent, trained with an L0 or tanh penalty",
        "Rajamanoharan et al. 2024, arXiv 2407.14435; Conerly et al. 2025, Circuits Updates",
        JumpReLU,
        settings=JumpReLU.SETTINGS,
    ),
    Architecture(
        "prolu",
        "ReLU whose bias is a threshold only, with an L1 penalty",
        "Taggart 2024, ProLU: A Nonlinearity for Sparse Autoencoders",
        ProLU,
        settings=ProLU.SETTINGS,
    ),
    Architecture(
        "p-anneal",
        "ReLU with an L_p penalty whose power falls from 1 towards 0",
        "Karvonen et al. 2024, arXiv 2408.00113",
        PAnneal,
        settings=PAnneal.SETTINGS,
    ),
    Architecture(
        "topk",
        "the k largest pre-activations of each token",
        "Gao et al. 2024, arXiv 2406.04093",
        TopK,
    ),
    Architecture(
        "batchtopk",
        "the k·n largest pre-activations of a batch of n tokens",
        "Bussmann et al. 2024, arXiv 2412.06410",
        BatchTopK,
    ),
    Architecture(
        "matryoshka",
        "BatchTopK whose first latents are dictionaries of their own, nested in each other",
        "Bussmann et al. 2025, arXiv 2503.17547",
        Matryoshka,
        settings=Matryoshka.SETTINGS,
    ),
    Architecture(
        "switch",
        "TopK in one of several expert dictionaries, to which a router sends each token",
        "Mudide et al. 2024, arXiv 2410.08201",
        Switch,
        settings=Switch.SETTINGS,
    ),
    Architecture(
        "feature-choice",
        "each latent takes its strongest tokens of a batch",
        "Ayonrinde 2024, arXiv 2411.02124",
        FeatureChoice,
        settings=FeatureChoice.SETTINGS,
    ),
    Architecture(
        "mutual-choice",
        "BatchTopK that helps latents which fire less than Zipf's law gives their rank",
        "Ayonrinde 2024, arXiv 2411.02124",
        MutualChoice,
        settings=MutualChoice.SETTINGS,
    ),
    Architecture(
        "transcoder",
        "TopK that reads one hook point and reconstructs another: what a sublayer does",
        "Dunefsky et al. 2024, arXiv 2406.11944",
        TopK,
        reads="another",
    ),
    Architecture(
        "skip-transcoder",
        "a transcoder with a linear map beside its latents",
        "Paulo et al. 2025, arXiv 2501.18823",
        SkipTranscoder,
        reads="another",
    ),
    Architecture(
        "crosscoder",
        "one BatchTopK dictionary for the activations of several hook points",
        "Lindsey et al. 2024, Sparse Crosscoders; Minder et al. 2025, arXiv 2504.02922",
        Crosscoder,
        reads="several",
    ),
)
"""By name, in the order in which they are listed."""
