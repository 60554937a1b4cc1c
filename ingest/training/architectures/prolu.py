"""ProLU SAEs (Taggart 2024, "ProLU: A Nonlinearity for Sparse Autoencoders", Alignment Forum).

    acts      z * 1[z > 0 and z + b > 0]
    penalty   Σ acts
    post-step decoder rows to unit length, b to at most 0, since beyond it has no effect
    stored as 'jumprelu' with the threshold max(0, -b)

The bias decides what is active, without making it smaller, and so has no gradient of its own. It is
given a synthetic one, ProLU_STE there: where active, 1 + z by z and z by b.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from atlas.ingest.training.architectures import dense
from atlas.ingest.training.architectures.dense import Dense, Stored
from atlas.ingest.training.architectures.dense_step import Activated, Latents
from atlas.ingest.training.architectures.sparsity import MOVING
from atlas.ingest.training.trainee import Moment


class StraightThrough(torch.autograd.Function):
    """ProLU of entries that are active, with its synthetic gradient."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, b: Tensor) -> Tensor:
        """Z and b (m,), z above 0 and above -b: z."""
        ctx.save_for_backward(z)
        return z.clone()

    @staticmethod
    def backward(ctx: Any, by_acts: Tensor) -> tuple[Tensor, Tensor]:
        """By z and by b."""
        (z,) = ctx.saved_tensors
        by_b = by_acts * z
        return by_acts + by_b, by_b


class ProLU(Dense):
    """In training."""

    SETTINGS: ClassVar = {
        **dense.SETTINGS,
        # Slower than others: what is pruned early has no gradient by which to come back.
        "sparsity_warmup": replace(dense.SETTINGS["sparsity_warmup"], default=0.3),
    }
    OWN = ("b",)
    STEERING = MOVING
    RATE = 0.3

    def first(self, level: Tensor) -> dict[str, Tensor]:
        """Active above the level."""
        return {"b": -level}

    def first_coefficient(self) -> float:
        """By half of it each activation becomes smaller; √(d_out / k) is what one amounts to."""
        return 0.05 * math.sqrt(self.shape.d_out / self.config.k)

    def least(self, p: Latents) -> Tensor:
        """Above it an entry is active."""
        return (-p["b"]).clamp_min(0)

    def activate(self, z: Tensor, at: Tensor, p: Latents, moment: Moment) -> Activated:
        """As it is."""
        acts: Tensor = StraightThrough.apply(z, p["b"][at])  # type: ignore[no-untyped-call]
        return Activated(acts, penalty=acts.sum())

    def constrain(self) -> None:
        """A threshold of 0 or more."""
        self.latents["b"].clamp_(max=0)

    def stored(self) -> Stored:
        """JumpReLU without bias."""
        threshold = (-self.latents["b"]).clamp_min(0)
        return Stored("jumprelu", torch.zeros_like(threshold), threshold=threshold)
