"""What the training loop asks of an SAE in training, and the settings that all of them share.

An architecture is a class with this interface and an entry in `atlas.ingest.train.ARCHITECTURES`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Protocol

import torch
from torch import Tensor

from atlas.errors import BadInput
from atlas.sae import SaeWeights
from atlas.workers import Stage


@dataclass(frozen=True)
class TrainConfig:
    """How SAEs are trained. Tokens count once, however many SAEs read them."""

    d_sae: int
    k: int
    train_tokens: int
    architecture: str = "topk"
    seed: int = 0
    batch_tokens: int = 2048
    """Most tokens to a step: the steps of a block share it evenly."""
    lr: float = 0.08
    """How far Adam may turn a direction in one step, in an SAE of 1,024 latents; see `rate`."""
    warmup: float = 0.05
    """Share of the training in which the rate rises from 0."""
    decay: float = 0.3
    """Share of the training, at its end, in which the rate falls to 0."""
    aux_alpha: float = 1 / 32
    """Weight of the loss that revives dead latents (AuxK; Gao et al. 2024, A.2)."""
    dead_share: float = 0.02
    """A latent is dead that did not fire in this share of the training, or in `dead_tokens`."""
    dead_tokens: int = 10_000_000
    block_tokens: int = 2**17
    """Tokens shuffled together."""
    block_bytes: int = 2**30
    """Upper bound on the activations held, over all hook points."""
    forward_tokens: int = 2048
    """Positions that the language model reads at a time, padding included."""

    def check(self) -> None:
        """Raise BadInput where the settings make no sense."""
        if self.d_sae < 1:
            raise BadInput(f"An SAE of width {self.d_sae} has no features; give 1 or more.")
        if not 1 <= self.k <= self.d_sae:
            raise BadInput(
                f"k = {self.k} active features a token is impossible with {self.d_sae} features; "
                f"give 1 to {self.d_sae}."
            )
        counts = ("train_tokens", "batch_tokens", "block_tokens", "block_bytes", "forward_tokens")
        for name in counts:
            if getattr(self, name) < 1:
                raise BadInput(f"{name} = {getattr(self, name)} is too small; give 1 or more.")
        if not 0 < self.lr < 1:
            raise BadInput(f"A learning rate of {self.lr} does not train; give one such as 0.08.")

    def rate(self, tokens: int, d_in: int) -> float:
        """Adam's learning rate after that many tokens.

        Adam moves every coordinate by about the rate, so a unit vector by √d_in times it. The peak
        also falls with the square root of the width (Gao et al. 2024, A.3).
        """
        peak = self.lr * math.sqrt(1024 / (d_in * self.d_sae))
        done = tokens / self.train_tokens
        first = self.batch_tokens / self.train_tokens
        rise = (done + first) / (self.warmup + first)
        fall = (1 - done) / self.decay if self.decay else 1.0
        return peak * max(0.0, min(1.0, rise, fall))

    def dead_after(self) -> int:
        """Tokens without firing after which a latent is dead."""
        return min(self.dead_tokens, round(self.dead_share * self.train_tokens))

    def fingerprint(self) -> str:
        """Hash of all settings."""
        return hashlib.sha256(repr(sorted(asdict(self).items())).encode()).hexdigest()


class Trainee(Protocol):
    """One SAE in training, for one hook point."""

    def begin(self, sample: Tensor) -> None:
        """Choose conventions and initial weights from activations, float32 (n, d_in)."""

    def step(self, x: Tensor, rate: float) -> Iterator[Stage]:
        """One step of the optimizer on activations float32 (n, d_in), as stages of jobs.

        The result depends on the calls made so far and not on how the jobs are run.
        """

    def explained_variance(self) -> float:
        """On the tokens of all steps since the last call; no part of the state."""

    def state(self) -> dict[str, Tensor]:
        """Everything that later steps depend on."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go to a state that `state` gave."""

    def weights(self) -> SaeWeights:
        """The SAE as it is now."""


def seeded(*parts: object) -> torch.Generator:
    """A generator of its own for whatever the parts name."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
