"""Steers the coefficient of a sparsity penalty until as many latents are active as is wanted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_MEMORY = 0.8
"""Share of the past in the running mean of the deviation."""

_MOST = 0.15
"""Greatest deviation that is integrated: L0 follows slowly, and meanwhile nothing must pile up."""

_RANGE = 4.0
"""How far the coefficient's logarithm may get from where it began: e⁴ = 55 times."""


@dataclass(frozen=True)
class Steering:
    """How much the coefficient changes per unit of the deviation."""

    swift: float
    """By which multiple of itself while the deviation lasts."""
    gain: float
    """By which part of itself in each step, for good."""


SHRINKING = Steering(2.0, 0.08)
"""For penalties that make activations smaller: L0 answers at once, and too much of it kills."""

MOVING = Steering(20.0, 0.03)
"""For thresholds, which only begin to move: L0 is the sum of all that the coefficient has been."""


class Sparsity:
    """The coefficient in training.

    A proportional-integral controller. The deviation is log(L0 / wanted), at most 1 either way. Its
    integral moves the coefficient's logarithm, since that changes L0 by about the same factor on
    any model and at any width. The deviation itself acts at once, and makes the coefficient
    negative where too few latents are active: without that a threshold hardly falls again, as a
    latent that is not active has no gradient. (It is the slope of a quadratic penalty on L0's
    deviation, as dictionary_learning 0.1.0 has for JumpReLU.)
    """

    def __init__(
        self, steering: Steering, *, wanted: float, first: float, warmup: float, fixed: float
    ) -> None:
        """wanted: L0 after the warm-up, a share of the training in which it falls from `first`.

        fixed: a coefficient that is not steered, and rises in the warm-up; or 0.
        """
        self._steering = steering
        self._wanted, self._first, self._warmup, self._fixed = wanted, first, warmup, fixed
        self._log = torch.zeros((), dtype=torch.float64)
        self._begun = torch.zeros((), dtype=torch.float64)
        self._deviation = torch.zeros((), dtype=torch.float64)

    def begin(self, coefficient: float) -> None:
        """Choose where steering begins."""
        self._begun.fill_(math.log(coefficient))
        self._log.copy_(self._begun)

    @property
    def coefficient(self) -> float:
        """As it is after the warm-up."""
        if self._fixed:
            return self._fixed
        return math.exp(self._log.item()) * (1 + self._steering.swift * self._deviation.item())

    def at(self, share: float) -> float:
        """For a step at that share of the training."""
        return self._fixed * self._risen(share) if self._fixed else self.coefficient

    def saw(self, l0: float, share: float) -> None:
        """Take note of a step's L0."""
        wanted = self._wanted * (self._first / self._wanted) ** (1 - self._risen(share))
        deviation = max(-1.0, min(1.0, math.log(max(l0, 1e-3) / wanted)))
        self._deviation.mul_(_MEMORY).add_((1 - _MEMORY) * deviation)
        moved = self._log + self._steering.gain * self._deviation.clamp(-_MOST, _MOST)
        self._log.copy_(moved.clamp(self._begun - _RANGE, self._begun + _RANGE))

    def _risen(self, share: float) -> float:
        return min(1.0, share / self._warmup) if self._warmup else 1.0

    def state(self) -> dict[str, Tensor]:
        """Everything that later steps depend on, not copied."""
        own = {"log": self._log, "begun": self._begun, "deviation": self._deviation}
        return {f"sparsity.{name}": tensor for name, tensor in own.items()}
