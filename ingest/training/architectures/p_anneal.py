"""p-annealed SAEs (Karvonen et al. 2024, arXiv 2408.00113): from L1 towards L0.

    acts      ReLU(z + b_enc)
    penalty   scale * Σ acts^p, p falling from 1
    post-step decoder rows to unit length; the scale, which makes up for the fall of p
    stored as 'relu'

The scale is such that with each change of p the penalty stays what it was (there, §3.2).
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

_LEAST = 1e-3
"""Activations below it count like it: the slope of a power has no bound at 0."""


class PAnneal(Dense):
    """In training."""

    SETTINGS: ClassVar = {
        **dense.SETTINGS,
        "p_end": Setting(0.2, "power of activations in the penalty at the end"),
        "p_from": Setting(0.1, "share of the training after which the power falls"),
        "p_until": Setting(0.8, "share of the training after which it has fallen"),
    }
    OWN = ("b_enc",)
    RATE = 1.5

    def __init__(
        self, shape: Shape, config: TrainConfig, generator: torch.Generator, device: torch.device
    ) -> None:
        super().__init__(shape, config, generator, device)
        self._log_scale = torch.zeros((), dtype=torch.float64)

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
        powers = acts.clamp_min(_LEAST).pow(self._power(moment.share))
        return Activated(acts, penalty=powers.sum() * math.exp(self._log_scale.item()))

    def after(self, acts: Tensor, moment: Moment) -> None:
        """Make up for the fall of p until the next step."""
        acts = acts[acts > 0].clamp_min(_LEAST).double()
        if len(acts):
            next_share = moment.share + self.config.batch_tokens / self.config.train_tokens
            now, then = (acts.pow(self._power(s)).sum() for s in (moment.share, next_share))
            self._log_scale += math.log(now.item() / then.item())

    def _power(self, share: float) -> float:
        begin, end = self.settings["p_from"], self.settings["p_until"]
        fallen = min(1.0, max(0.0, (share - begin) / (end - begin)))
        return 1 + (self.settings["p_end"] - 1) * fallen

    def stored(self) -> Stored:
        """As it is."""
        return Stored("relu", self.latents["b_enc"])

    def state(self) -> dict[str, Tensor]:
        """With the scale."""
        return super().state() | {"log_scale": self._log_scale}
