"""BatchTopK SAEs (Bussmann et al. 2024, arXiv 2412.06410): the k·n largest of a batch of n tokens.

    encode      pre = h @ W_enc + b_enc, and of all of a batch the k·n largest above 0
    decode      acts @ W_dec + b_dec
    loss        mean square error, and AuxK
    post-step   decoder rows to unit length; the threshold of inference
    stored as   'jumprelu' with one threshold for all latents

The threshold is an average of the batches' least active values, so that the mean L0 of new tokens
is k; see `atlas.ingest.training.architectures.threshold`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atlas.ingest.training.architectures.batch import Batch
from atlas.ingest.training.architectures.entries import Entries
from atlas.ingest.training.architectures.sparse import Sparse
from atlas.ingest.training.architectures.threshold import Threshold
from atlas.ingest.training.trainee import Moment, Shape, TrainConfig
from atlas.workers import Stage

_SLACK = 0.9
"""Candidates are what is above this share of the last batch's least active value."""

_FEW = 64
"""Rows from which that is guessed at first."""


class BatchTopK(Sparse):
    """In training."""

    def __init__(
        self, shape: Shape, config: TrainConfig, generator: torch.Generator, device: torch.device
    ) -> None:
        super().__init__(shape, config, generator, device)
        self.least = torch.zeros(1, device=device)
        """The least active value of the last batch."""
        self.threshold = Threshold(1, device)

    def encode(self, batch: Batch) -> Iterator[Stage]:
        """The batch's k·n largest pre-activations above 0.

        Only candidates are kept of each chunk of rows. If they are too few, which they hardly ever
        are, the chunks are done again with a lower bar; the result does not depend on the bar.
        """
        wanted = self.config.k * batch.n
        if not self.least:
            yield [partial(self._guess, batch)]
        floor = _SLACK * self.least.item()
        found: dict[int, Entries] = {}
        while True:
            yield batch.by_rows(partial(self._above, batch, floor, found))
            if floor == 0 or sum(len(one.latent) for one in found.values()) >= wanted:
                break
            floor = floor / 2 if floor > 1e-3 else 0.0
        yield [partial(self._largest, batch, wanted, found)]

    def _guess(self, batch: Batch) -> None:
        """The least active value of a few rows, for want of a batch before this one."""
        few = slice(min(batch.n, _FEW))
        pre = self.pre(batch.read(few))
        self.least.copy_(kth_largest(pre.view(-1), self.config.k * len(pre)).clamp_min(0))

    def _above(self, batch: Batch, floor: float, found: dict[int, Entries], rows: slice) -> None:
        found[rows.start] = entries_above(self.pre(batch.read(rows)), floor)

    def _largest(self, batch: Batch, wanted: int, found: dict[int, Entries]) -> None:
        """The largest of all candidates; where several are equal to the least of them, all."""
        candidates = Entries.together([found[i] for i in sorted(found)])
        self.least.copy_(kth_largest(candidates.value, wanted))
        batch.entries = candidates.where(candidates.value >= self.least)

    def after(self, batch: Batch, moment: Moment) -> None:
        """Let the threshold follow the least active values."""
        self.threshold.follow(self.least, batch.n, moment.tokens)

    def stored(self) -> dict[str, Any]:
        """With the threshold of inference."""
        threshold = self.threshold.value.expand(self.config.d_sae)
        return {"activation": "jumprelu", "threshold": threshold.clone()}

    def own_state(self) -> dict[str, Tensor]:
        """Where the choice begins to look, and the threshold."""
        return {"least": self.least} | self.threshold.state()


def entries_above(pre: Tensor, floor: float) -> Entries:
    """What is above `floor` in each row of pre (n, d_sae)."""
    n, d_sae = pre.shape
    if pre.device.type == "cpu":
        flat = torch.from_numpy(np.flatnonzero(pre.numpy() > floor))  # a third of torch's time
    else:
        flat = (pre > floor).view(-1).nonzero().view(-1)
    starts = torch.arange(0, n * d_sae + 1, d_sae, device=pre.device)
    offset = torch.searchsorted(flat, starts, out_int32=True)
    return Entries(offset, (flat % d_sae).int(), pre.view(-1).index_select(0, flat))


def kth_largest(values: Tensor, k: int) -> Tensor:
    """The k-th largest of values (m,), or the least where there are not so many; 0 of none."""
    m = len(values)
    if m <= k:
        return values.min() if m else values.new_zeros(())
    if values.device.type == "cpu":
        return torch.tensor(np.partition(values.numpy(), m - k)[m - k])
    return values.topk(k, sorted=False).values.min()
