"""Features that choose tokens, and budgets that both share (Ayonrinde 2024, arXiv 2411.02124).

                Feature Choice                              Mutual Choice
    encode      of each latent's pre-activations on a       the k·n largest of all pre-activations
                batch of n tokens the m largest above 0     of the batch above 0
    decode      acts @ W_dec + b_dec                        the same
    loss        mean square error, and AuxK for latents     mean square error, and AuxK for latents
                that are dead                               that are dead or that fire less than
                                                            Zipf's law gives their rank
    post-step   decoder rows to unit length; the thresholds of inference, for both
    stored as   'jumprelu' with a threshold for each        'jumprelu' with one threshold for all
                latent

m may be the same for all latents or fall with the latent's number as a power of it, after Zipf. The
mean over latents is k·n / d_sae in either case.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from atlas.ingest.training.architectures.batch import Batch
from atlas.ingest.training.architectures.batchtopk import BatchTopK
from atlas.ingest.training.architectures.entries import Entries, sorted_by_latent
from atlas.ingest.training.architectures.settings import Setting
from atlas.ingest.training.architectures.sparse import Sparse
from atlas.ingest.training.architectures.threshold import Threshold
from atlas.ingest.training.trainee import Moment, Shape, TrainConfig
from atlas.workers import Stage

_MOST = 0.5
"""Largest share of the tokens that one latent chooses."""

_LATENTS = 256
"""Latents that choose at a time on a CPU."""


class FeatureChoice(Sparse):
    """In training."""

    SETTINGS: ClassVar = {
        "zipf": Setting(0.8, "exponent by which a latent's tokens fall with its number; 0: not")
    }

    def __init__(
        self, shape: Shape, config: TrainConfig, generator: torch.Generator, device: torch.device
    ) -> None:
        super().__init__(shape, config, generator, device)
        self.shares = zipf_shares(config.k, config.d_sae, self.settings["zipf"])
        self.least = torch.zeros(config.d_sae, device=device)
        """Where each latent's active values of this batch end."""
        self.threshold = Threshold(config.d_sae, device)

    def encode(self, batch: Batch) -> Iterator[Stage]:
        """Each latent's tokens, then the entries sorted by token."""
        yield batch.by_rows(batch.read)
        step = _LATENTS if self.device.type == "cpu" else self.config.d_sae
        found: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        yield [
            partial(self._choose, batch, found, slice(i, min(i + step, self.config.d_sae)))
            for i in range(0, self.config.d_sae, step)
        ]
        yield [partial(self._by_row, batch, found)]

    def _choose(
        self, batch: Batch, found: dict[int, tuple[Tensor, Tensor, Tensor]], latents: slice
    ) -> None:
        pre = torch.addmm(self.b_enc[latents, None], self.W_enc[latents], batch.h.T)
        wanted = (self.shares[latents] * batch.n).round().long().clamp(1, batch.n)
        least, next_least = mth_largest(pre, wanted).relu_()
        # Between the two: the least of few is on average above the value that as many exceed.
        self.least[latents] = (least + next_least) / 2
        active = (pre >= least[:, None]).logical_and_(pre > 0)
        latent, row = active.nonzero().int().unbind(1)
        found[latents.start] = latent + latents.start, row, pre[active]

    def _by_row(self, batch: Batch, found: dict[int, tuple[Tensor, Tensor, Tensor]]) -> None:
        parts = [found[i] for i in sorted(found)]
        latent, row, value = (torch.cat(all) for all in zip(*parts, strict=True))
        order, offset = sorted_by_latent(row, batch.n)
        batch.entries = Entries(offset, latent.index_select(0, order), value.index_select(0, order))

    def after(self, batch: Batch, moment: Moment) -> None:
        """Let the thresholds follow the least active values."""
        self.threshold.follow(self.least, batch.n, moment.tokens)

    def stored(self) -> dict[str, Any]:
        """With the thresholds of inference."""
        return {"activation": "jumprelu", "threshold": self.threshold.value}

    def own_state(self) -> dict[str, Tensor]:
        """The thresholds."""
        return self.threshold.state()


class MutualChoice(BatchTopK):
    """In training."""

    SETTINGS: ClassVar = {
        "zipf": Setting(1.0, "exponent of Zipf's law for how often latents are active, by rank"),
        "underused": Setting(0.1, "share of that below which AuxK helps a latent"),
    }

    def __init__(
        self, shape: Shape, config: TrainConfig, generator: torch.Generator, device: torch.device
    ) -> None:
        super().__init__(shape, config, generator, device)
        expected = zipf_shares(config.k, config.d_sae, self.settings["zipf"]).to(device)
        # Below the mean, that is: a frequent latent is not in need of help.
        self._least = self.settings["underused"] * expected.clamp_max(config.k / config.d_sae)
        self.share = expected.float()
        """Of the latest tokens, those on which each latent was active."""

    def revivable(self) -> Tensor:
        """Those that fire less than Zipf's law gives their rank, beside the dead."""
        order = self.share.argsort(descending=True, stable=True)
        underused = order[self.share[order] < self._least]
        wanted = torch.zeros_like(self.idle, dtype=torch.bool)
        wanted[underused] = True
        wanted[super().revivable()] = True
        return wanted.nonzero().view(-1)

    def after(self, batch: Batch, moment: Moment) -> None:
        """Note how often latents fire."""
        super().after(batch, moment)
        fired = torch.bincount(batch.entries.latent, minlength=len(self.share)) / batch.n
        self.share.lerp_(fired, batch.n / (batch.n + self.config.dead_after()))

    def own_state(self) -> dict[str, Tensor]:
        """How often latents fire, beside BatchTopK's."""
        return super().own_state() | {"share": self.share}


def zipf_shares(k: int, d_sae: int, exponent: float) -> Tensor:
    """Shares of the tokens, float64 (d_sae,), falling by rank, with the sum k.

    Proportional to (rank + shift)^-exponent, with the least shift at which none is above a half,
    where k is not above half of d_sae.
    """
    rank = torch.arange(1, d_sae + 1, dtype=torch.float64)
    shift = 0.0
    while True:
        shares = (rank + shift) ** -exponent
        shares *= k / shares.sum()
        if shares[0] <= _MOST or 2 * k >= d_sae:
            return shares.clamp_max(1.0)
        shift = 2 * shift + 1


def mth_largest(x: Tensor, m: Tensor) -> Tensor:
    """Of each row of x (rows, n) the m-th largest and the next one: (2, rows).

    m int64 (rows,) between 1 and n; after the last one comes -inf.
    """
    x = F.pad(x, (0, 1), value=-torch.inf)
    n = x.shape[1]
    if x.device.type == "cpu":
        found = [
            np.partition(row, (n - 1 - most, n - most))[n - 1 - most : n - most + 1]
            for row, most in zip(x.numpy(), m.tolist(), strict=True)
        ]
        return torch.from_numpy(np.stack(found)).flip(1).T
    place = torch.stack([m - 1, m], 1).to(x.device)
    return x.sort(dim=1, descending=True).values.gather(1, place).T
