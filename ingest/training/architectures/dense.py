"""The base of the architectures in which each latent decides by itself whether it is active.

    z    = h @ W_enc                      h, t: see `conventions`
    acts = activate(z)                    biases and thresholds are the architecture's own
    t̂    = acts @ W_dec + b_dec
    loss = mean over tokens of ‖t - t̂‖² + coefficient * penalty

Any number of latents may be active on a token, but few of them are. So all that follows z happens
on entries (token, latent) that are active or have a gradient. An architecture says which those are
and what becomes of each, in scalars that autograd differentiates; the products with the large
matrices and their gradients are in `dense_step`, once for all.

The loss sums over dimensions, as in the papers of these architectures, so that their coefficients
mean the same here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from atlas.ingest.training.adam import Adam
from atlas.ingest.training.architectures.conventions import (
    Conventions,
    best_multiple,
    random_directions,
)
from atlas.ingest.training.architectures.dense_step import Activated, Latents, Step
from atlas.ingest.training.architectures.settings import Setting, chosen
from atlas.ingest.training.architectures.sparsity import SHRINKING, Sparsity, Steering
from atlas.ingest.training.trainee import ByOutput, Moment, Shape, TrainConfig, seeded
from atlas.sae import ROWS, SaeWeights
from atlas.workers import Stage


@dataclass(frozen=True)
class Stored:
    """How the canonical form computes it: pre = z * gain + b_enc, all of them (d_sae,)."""

    activation: str
    b_enc: Tensor
    gain: Tensor | None = None
    threshold: Tensor | None = None


SETTINGS: Mapping[str, Setting] = {
    "coefficient": Setting(0.0, "coefficient of the sparsity penalty; 0: steered so that L0 is k"),
    "first_l0": Setting(4.0, "active latents at the beginning, as a multiple of k"),
    "sparsity_warmup": Setting(0.2, "share of training in which L0 falls, or the penalty rises"),
    "resample": Setting(0.0, "how many times dead latents are drawn anew"),
}
"""What all of them have."""


class Dense:
    """A dictionary in training (an `atlas.ingest.training.trainee.Trainee`).

    Rows of both matrices are latents, so that a gradient's row is a sum over its entries.
    """

    SETTINGS: ClassVar[Mapping[str, Setting]] = SETTINGS
    OWN: ClassVar[tuple[str, ...]]
    """Names of the architecture's own parameters, one number for each latent."""
    CLIP: ClassVar[float] = 1.0
    """Greatest length of all gradients together, where `TrainConfig.clip` does not say."""
    RATE: ClassVar[float] = 1.0
    """Factor of the learning rate, as found best for trainings of some hundred steps."""
    STEERING: ClassVar[Steering] = SHRINKING
    """How L0 answers to the coefficient."""

    def __init__(
        self, shape: Shape, config: TrainConfig, generator: torch.Generator, device: torch.device
    ) -> None:
        self.config, self.shape = config, shape
        self.settings = chosen(self.SETTINGS, config)
        self.rows = ROWS if device.type == "cpu" else config.batch_tokens
        """Tokens that are one job's."""
        self.unit_norm = True
        """Whether decoder rows stay unit vectors."""
        self.conventions = Conventions(shape, device)
        d_sae = config.d_sae
        self.W_enc = torch.zeros(d_sae, shape.d_in, device=device)
        self.W_dec = torch.zeros(d_sae, shape.d_out, device=device)
        self.b_dec = torch.zeros(shape.d_out, device=device)
        self.latents = {name: torch.zeros(d_sae, device=device) for name in self.OWN}
        self.idle = torch.zeros(d_sae, dtype=torch.int64, device=device)
        """Tokens since each latent was active."""
        self.sparsity = Sparsity(
            self.STEERING,
            wanted=config.k,
            first=config.k * self.settings["first_l0"],
            warmup=self.settings["sparsity_warmup"],
            fixed=self.settings["coefficient"],
        )
        self.by_W_dec: Tensor | None = None
        """A gradient (d_sae, d_out) that the next step adds to its own, in units of the mean square
        error over tokens and dimensions."""
        self._encoder = Adam(self.W_enc, *self.latents.values())
        self._decoder = Adam(self.W_dec, self.b_dec)
        self._generator = generator
        # Tokens, active entries, loss, Σ‖t - t̂‖², Σ‖t‖² and Σt since the last report.
        self._tally = torch.zeros(5 + shape.d_out, dtype=torch.float64, device=device)

    # What an architecture says

    def first(self, level: Tensor) -> dict[str, Tensor]:
        """Values of its own parameters with which z above `level` (m,) is active."""
        raise NotImplementedError

    def first_coefficient(self) -> float:
        """From where the penalty's coefficient is steered."""
        raise NotImplementedError

    def least(self, p: Latents) -> Tensor:
        """The z (d_sae,) above which an entry is active or has a gradient."""
        raise NotImplementedError

    def activate(self, z: Tensor, at: Tensor, p: Latents, moment: Moment) -> Activated:
        """What becomes of entries z (m,) of the latents `at` int32 (m,); differentiable in z and p.

        p: its own parameters, and 'norm', the lengths of the decoder's rows.
        """
        raise NotImplementedError

    def constrain(self) -> None:
        """Keep its own parameters where they have a meaning; follows each step of the optimizer."""

    def after(self, acts: Tensor, moment: Moment) -> None:
        """What else follows a step, in which those activations (m,) took part."""

    def stored(self) -> Stored:
        """The canonical form."""
        raise NotImplementedError

    # What is the same for all

    @torch.no_grad()
    def begin(self, x: Tensor, y: Tensor) -> None:
        """Choose conventions; decoder directions at random, the encoder along them.

        Every latent is active on the same share of tokens. Where x is not y, the encoder is random
        and a latent's decoder direction is what the tokens on which it is active have in common.
        """
        self.conventions.choose(x, y)
        d_sae, device = self.config.d_sae, x.device
        self.W_enc.copy_(random_directions(d_sae, self.shape.d_in, self._generator, device))
        h = self.conventions.read(x[: self.config.batch_tokens])
        t = self.conventions.target(y[: self.config.batch_tokens])
        z = h @ self.W_enc.T
        share = min(0.5, self.settings["first_l0"] * self.config.k / d_sae)
        n_active = max(1, round(share * len(z)))
        level = z.topk(n_active, dim=0).values[-1].clamp_min(0)
        acts = torch.where(z >= level, z, 0)
        self.W_dec.copy_(self.W_enc if self.shape.same else F.normalize(acts.T @ t, dim=1))
        multiple = best_multiple(t, acts @ self.W_dec)
        self.W_enc.mul_(multiple)
        for name, value in self.first(level * multiple).items():
            self.latents[name].copy_(value)
        self.sparsity.begin(self.first_coefficient())

    def step(
        self, x: Tensor, y: Tensor, moment: Moment, by_output: ByOutput | None = None
    ) -> Iterator[Stage]:
        """One step of Adam on activations, as stages of jobs."""
        step = Step(self, x, y, moment)
        begins = range(0, len(x), self.rows)
        if by_output is None:
            yield [partial(step.code_and_differentiate, begin) for begin in begins]
        else:
            yield [partial(step.code, begin) for begin in begins]
            step.follow(by_output)
            yield [partial(step.differentiate, begin) for begin in begins]
        yield [step.gather]
        yield [step.encoder_gradients, step.decoder_gradients]
        rate = self.RATE * moment.schedule * self.config.peak_rate(self.shape.d_in)
        yield [partial(self._step_encoder, step, rate), partial(self._step_decoder, step, rate)]
        yield [partial(self._end, step)]

    def _step_encoder(self, step: Step, rate: float) -> None:
        self._encoder.step(step.clipped(step.by_encoder), rate)
        self.constrain()

    def _step_decoder(self, step: Step, rate: float) -> None:
        self._decoder.step(step.clipped(step.by_decoder), rate)
        if self.unit_norm:
            self.W_dec.div_(torch.linalg.vector_norm(self.W_dec, dim=1, keepdim=True))

    @torch.no_grad()
    def _end(self, step: Step) -> None:
        self.by_W_dec = None
        self._tally += step.tally
        self.idle.add_(len(step.x)).masked_fill_(step.fired, 0)
        self.sparsity.saw(step.l0, step.moment.share)
        self.after(step.acts, step.moment)
        # At equal steps in the first half of the training (Bricken et al. 2023: four times).
        times, share = self.settings["resample"], len(step.x) / self.config.train_tokens
        due = 2 * times * step.moment.share
        if math.floor(due) < math.floor(due + 2 * times * share) <= times:
            self._resample(step)

    def _resample(self, step: Step) -> None:
        """Point dead latents at tokens with a large loss (Bricken et al. 2023, appendix).

        They are active above half of their z on that token. (There their bias is 0, so that they
        are active on half of all tokens.)
        """
        dead = (self.idle > self.config.dead_after()).nonzero().view(-1)[: len(step.x)]
        loss = step.error.square().sum(1)
        if not len(dead) or not loss.any():
            return
        generator = seeded(self.config.seed, "resample", step.moment.tokens)
        chance = loss.square().clamp_min(1e-12).cpu()
        rows = chance.multinomial(len(dead), generator=generator).to(dead.device)
        alive = self.idle <= self.config.dead_after()
        length = 0.2 * (self.W_enc[alive].norm(dim=1).mean() if alive.any() else 1.0)
        self.W_enc[dead] = F.normalize(step.h[rows], dim=1) * length
        self.W_dec[dead] = F.normalize(step.t[rows], dim=1)
        for name, value in self.first(step.h[rows].norm(dim=1) * length / 2).items():
            self.latents[name][dead] = value
        self.idle[dead] = 0
        moments = self._encoder.state("encoder") | self._decoder.state("decoder")
        for tensor in moments.values():
            if tensor.shape[:1] == self.idle.shape:
                tensor[dead] = 0

    def report(self) -> dict[str, float]:
        """Of all tokens since the last call; NaN without any.

        explained_variance: 1 - Σ‖t - t̂‖² / Σ‖t - mean t‖²; loss: with the penalty.
        """
        n, active, loss, errors, squares, *sums_of_t = self._tally.tolist()
        self._tally.zero_()
        spread = squares - sum(s * s for s in sums_of_t) / n if n else 0.0
        return {
            "explained_variance": 1 - errors / spread if spread > 0 else math.nan,
            "l0": active / n if n else math.nan,
            "loss": loss / n if n else math.nan,
            "dead_share": (self.idle > self.config.dead_after()).double().mean().item(),
            "coefficient": self.sparsity.coefficient,
        }

    def state(self) -> dict[str, Tensor]:
        """Parameters, conventions, moments, the coefficient and how long latents have been idle."""
        own = {"W_enc": self.W_enc, "W_dec": self.W_dec, "b_dec": self.b_dec, "idle": self.idle}
        moments = self._encoder.state("encoder") | self._decoder.state("decoder")
        return own | self.latents | moments | self.conventions.state() | self.sparsity.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go to a state that `state` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    @torch.no_grad()
    def weights(self) -> SaeWeights:
        """The dictionary as it is now, with decoder rows of length 1; its tensors are copies.

        What a row's length is divided by, the latent's activations are multiplied with, and so are
        bias and threshold: that is the same function.
        """
        stored, conventions = self.stored(), self.conventions
        norm = torch.linalg.vector_norm(self.W_dec, dim=1).clamp_min(1e-12)
        gain = norm if stored.gain is None else stored.gain * norm
        return SaeWeights(
            architecture=self.config.architecture,
            activation=stored.activation,
            k=self.config.k,
            W_enc=(self.W_enc * gain[:, None]).T.contiguous(),
            b_enc=stored.b_enc * norm,
            W_dec=self.W_dec / norm[:, None],
            b_dec=self.b_dec + conventions.centre,
            pre_bias=conventions.pre_bias.clone(),
            input_scale=conventions.input_scale.item(),
            output_scale=conventions.output_scale.item(),
            threshold=None if stored.threshold is None else stored.threshold * norm,
        )
