"""Gated SAEs (Rajamanoharan et al. 2024a, arXiv 2404.16014): which latents and how much, apart.

    gate      z + b_gate
    acts      1[gate > 0] * ReLU(z * exp(r_mag) + b_mag)
    penalty   Σ ReLU(gate)
    loss      in addition ‖t - ReLU(gate) @ W_dec - b_dec‖², from which the decoder does not learn
    post-step decoder rows to unit length
    stored as 'jumprelu', pre = z * exp(r_mag) + b_mag, threshold b_mag - b_gate * exp(r_mag)

Gate and magnitudes share the encoder's directions (§3.2), which makes the last line true.
"""

from __future__ import annotations

import math

from torch import Tensor

from atlas.ingest.training.architectures.dense import Dense, Stored
from atlas.ingest.training.architectures.dense_step import Activated, Latents
from atlas.ingest.training.trainee import Moment


class Gated(Dense):
    """In training."""

    OWN = ("b_gate", "b_mag", "r_mag")
    RATE = 1.5

    def first(self, level: Tensor) -> dict[str, Tensor]:
        """Active above the level, as strongly as the gate."""
        return {"b_gate": -level, "b_mag": -level, "r_mag": level * 0}

    def first_coefficient(self) -> float:
        """By half of it the gate's values become smaller; √(d_out / k) is what one amounts to."""
        return 0.1 * math.sqrt(self.shape.d_out / self.config.k)

    def least(self, p: Latents) -> Tensor:
        """Above it the gate is open."""
        return -p["b_gate"]

    def activate(self, z: Tensor, at: Tensor, p: Latents, moment: Moment) -> Activated:
        """Magnitudes and gate where it is open."""
        gate = z + p["b_gate"][at]
        acts = (z * p["r_mag"][at].exp() + p["b_mag"][at]).relu()
        return Activated(acts, penalty=gate.sum(), gate=gate)

    def stored(self) -> Stored:
        """JumpReLU of the magnitudes."""
        gain, b_mag = self.latents["r_mag"].exp(), self.latents["b_mag"]
        threshold = b_mag - self.latents["b_gate"] * gain
        return Stored("jumprelu", b_mag, gain, threshold)
