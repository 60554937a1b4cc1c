"""The thresholds of inference of dictionaries that choose over whole batches."""

from __future__ import annotations

import torch
from torch import Tensor

_MEMORY = 0.1
"""Share of the training so far that the averages reach over."""


class Threshold:
    """Follows the least active values of batches: what is above it is active at inference.

    Bussmann et al. 2024 take a running average with a fixed memory (β = .999), which in a training
    of a few hundred steps is far behind, and puts L0 off by as much. Here the memory grows with the
    training; and as the values still drift, the average of the averages shows by how much the
    average lags, and is made up for (Brown's double exponential smoothing).
    """

    def __init__(self, n: int, device: torch.device) -> None:
        """n: 1, or how many latents have thresholds of their own."""
        self._average = torch.zeros(n, device=device)
        self._of_averages = torch.zeros(n, device=device)

    def follow(self, least: Tensor, tokens: int, before: int) -> None:
        """Take note of a batch of so many tokens; least: (n,), before: tokens of earlier ones."""
        share = tokens / (tokens + _MEMORY * before)
        self._average.lerp_(least, share)
        self._of_averages.lerp_(self._average, share)

    @property
    def value(self) -> Tensor:
        """(n,)"""
        return (2 * self._average - self._of_averages).clamp_min_(0)

    def state(self) -> dict[str, Tensor]:
        """All that it depends on, not copied."""
        return {"threshold": self._average, "threshold.average": self._of_averages}
