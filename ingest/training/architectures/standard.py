"""ReLU SAEs with an L1 penalty, as of April 2024 (Conerly et al. 2024, Circuits Updates).

    acts      ReLU(z + b_enc)
    penalty   Σ acts * ‖W_dec row‖
    post-step none: rows of the decoder have any length, which the penalty takes into account
    stored as 'relu'

With `unit_norm` the older form (Bricken et al. 2023): rows of length 1 and, with `resample`, dead
latents drawn anew.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from atlas.ingest.training.architectures import dense
from atlas.ingest.training.architectures.dense import Dense, Stored
from atlas.ingest.training.architectures.dense_step import Activated, Latents
from atlas.ingest.training.architectures.settings import Setting
from atlas.ingest.training.trainee import Moment, Shape, TrainConfig


class Standard(Dense):
    """In training."""

    SETTINGS: ClassVar = {
        **dense.SETTINGS,
        "unit_norm": Setting(0, "1: decoder rows of length 1, as before April 2024"),
    }
    OWN = ("b_enc",)
    RATE = 1.5

    def __init__(
        self, shape: Shape, config: TrainConfig, generator: torch.Generator, device: torch.device
    ) -> None:
        super().__init__(shape, config, generator, device)
        self.unit_norm = bool(self.settings["unit_norm"])

    def first(self, level: Tensor) -> dict[str, Tensor]:
        """Active above the level."""
        return {"b_enc": -level}

    def first_coefficient(self) -> float:
        """By half of it each activation becomes smaller; √(d_out / k) is what one amounts to."""
        return 0.1 * math.sqrt(self.shape.d_out / self.config.k)

    def least(self, p: Latents) -> Tensor:
        """Above it an entry is active."""
        return -p["b_enc"]

    def activate(self, z: Tensor, at: Tensor, p: Latents, moment: Moment) -> Activated:
        """ReLU, of what is above 0."""
        acts = z + p["b_enc"][at]
        return Activated(acts, penalty=(acts * p["norm"][at]).sum())

    def stored(self) -> Stored:
        """As it is."""
        return Stored("relu", self.latents["b_enc"])
