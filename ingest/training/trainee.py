"""What the training loop asks of an SAE in training, and the settings that all of them share.

An architecture is a class with this interface and an entry in the registry of `architectures`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
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
    clip: float = 0.0
    """Greatest length of all gradients of a step together, to which longer ones are shortened; 0:
    the architecture's own. The loss is the mean square error of vectors with a mean norm of √d."""
    aux_alpha: float = 1 / 32
    """Weight of the loss that revives dead latents (AuxK; Gao et al. 2024, A.2)."""
    dead_share: float = 0.1
    """A latent is dead that did not fire in this share of the training, or in `dead_tokens`."""
    dead_tokens: int = 10_000_000
    block_tokens: int = 2**17
    """Tokens shuffled together."""
    block_bytes: int = 2**30
    """Upper bound on the activations held, over all hook points."""
    forward_tokens: int = 2048
    """Positions that the language model reads at a time, padding included."""
    settings: Mapping[str, float] = field(default_factory=dict)
    """The architecture's own settings, by name, where they are not its defaults."""

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
        for name in ("warmup", "decay", "dead_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"{name} = {getattr(self, name):g} is no share; give 0 to 1.")
        for name in ("clip", "aux_alpha"):
            if not 0 <= getattr(self, name) < math.inf:
                raise BadInput(f"{name} = {getattr(self, name):g} makes no sense; give 0 or more.")

    def moment(self, tokens: int) -> Moment:
        """Where a training stands after that many tokens."""
        done = tokens / self.train_tokens
        first = self.batch_tokens / self.train_tokens
        rise = (done + first) / (self.warmup + first)
        fall = (1 - done) / self.decay if self.decay else 1.0
        return Moment(tokens, done, max(0.0, min(1.0, rise, fall)))

    def peak_rate(self, d_in: int) -> float:
        """Adam's learning rate where `Moment.schedule` is 1.

        Adam moves every coordinate by about the rate, so a unit vector by √d_in times it. The peak
        also falls with the square root of the width (Gao et al. 2024, A.3).
        """
        return self.lr * math.sqrt(1024 / (d_in * self.d_sae))

    def dead_after(self) -> int:
        """Tokens without firing after which a latent is dead."""
        return min(self.dead_tokens, round(self.dead_share * self.train_tokens))

    def fingerprint(self) -> str:
        """Hash of all settings."""
        return hashlib.sha256(repr(sorted(asdict(self).items())).encode()).hexdigest()


@dataclass(frozen=True)
class Moment:
    """Where a training stands."""

    tokens: int
    """Read before this step."""
    share: float
    """The same as a share of the whole training, 0 … 1."""
    schedule: float
    """Factor 0 … 1 of the learning rate: warm-up and decay."""


@dataclass(frozen=True)
class Shape:
    """What a dictionary reads and writes: widths of the activations, side by side in one vector."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    same: bool
    """Whether it reconstructs what it reads."""

    @property
    def d_in(self) -> int:
        """Width of x."""
        return sum(self.inputs)

    @property
    def d_out(self) -> int:
        """Width of y."""
        return sum(self.outputs)


ByOutput = Callable[[Tensor], Tensor]
"""From reconstructions ŷ float32 (n, d_out), in the model's own units, to a loss's gradient by
them, of the same shape: end-to-end training."""


class Trainee(Protocol):
    """One dictionary in training.

    x float32 (n, d_in) is what it reads and y float32 (n, d_out) what it shall reconstruct, both in
    the model's own units; y is x itself where `Shape.same`.
    """

    def begin(self, x: Tensor, y: Tensor) -> None:
        """Choose conventions and initial weights from activations."""

    def step(
        self, x: Tensor, y: Tensor, moment: Moment, by_output: ByOutput | None = None
    ) -> Iterator[Stage]:
        """One step of the optimizer, as stages of jobs.

        The result depends on the calls made so far and not on how the jobs are run.

        by_output: the gradient of another loss of fidelity in place of the mean square error's.
        """

    def report(self) -> dict[str, float]:
        """Figures of all steps since the last call; no part of the state.

        At least 'explained_variance', 'l0', 'loss' and 'dead_share'.
        """

    def state(self) -> dict[str, Tensor]:
        """Everything that later steps depend on."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go to a state that `state` gave."""

    def weights(self) -> SaeWeights:
        """The dictionary as it is now, its tensors copies."""


def seeded(*parts: object) -> torch.Generator:
    """A generator of its own for whatever the parts name."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
