"""Switch SAEs (Mudide et al. 2024, arXiv 2410.08201): a router sends each token to one of several.

    encode      p = softmax(h @ W_router + b_router); of the latents of the expert e with the
                largest p the k largest of h @ W_enc + b_enc above 0, times p_e
    decode      acts @ W_dec + b_dec
    loss        mean square error, AuxK, and balance * n_experts * Σ_e f_e mean(p_e), where f_e is
                the share of tokens that go to e
    post-step   decoder rows to unit length
    stored as   'switch'

Only the chosen expert's pre-activations are computed. The paper subtracts a bias of its own before
the router; here it is folded into b_router, which is trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from atlas.errors import BadInput
from atlas.ingest.training.architectures.batch import Batch
from atlas.ingest.training.architectures.entries import Entries
from atlas.ingest.training.architectures.settings import Setting
from atlas.ingest.training.architectures.sparse import Sparse
from atlas.ingest.training.trainee import Shape, TrainConfig
from atlas.selection import k_largest
from atlas.workers import Stage


class Switch(Sparse):
    """In training."""

    BY_ROW = True
    SETTINGS: ClassVar = {
        "experts": Setting(8, "dictionaries to choose from"),
        "balance": Setting(0.1, "weight of the loss that sends them equally many tokens"),
    }

    def __init__(
        self, shape: Shape, config: TrainConfig, generator: torch.Generator, device: torch.device
    ) -> None:
        super().__init__(shape, config, generator, device)
        n = int(self.settings["experts"])
        if n < 1 or config.d_sae % n or config.k > config.d_sae // n:
            raise BadInput(
                f"{config.d_sae} features cannot be shared by {n} experts with at least "
                f"{config.k} each; give a width that experts divides."
            )
        self.n_experts = n
        self.shared["W_router"] = torch.zeros(shape.d_in, n, device=device)
        self.shared["b_router"] = torch.zeros(n, device=device)

    def begin(self, x: Tensor, y: Tensor) -> None:
        """With logits of about the spread that a normal variable has."""
        router = torch.randn((self.shape.d_in, self.n_experts), generator=self._generator)
        self.shared["W_router"].copy_(router / math.sqrt(self.shape.d_in))
        super().begin(x, y)

    def encode(self, batch: Batch) -> Iterator[Stage]:
        """Each row's k largest among the latents of its expert."""
        k, n = self.config.k, batch.n
        batch.entries = Entries.of_k(n, k, batch.h.device)
        self._chance = batch.h.new_empty((n, self.n_experts))
        self._expert = torch.empty(n, dtype=torch.int64, device=batch.h.device)
        self._by_chance = batch.h.new_empty((n, 1))
        yield batch.by_rows(partial(self._encode_rows, batch))

    def _encode_rows(self, batch: Batch, rows: slice) -> None:
        h, k, size = batch.read(rows), self.config.k, self.config.d_sae // self.n_experts
        logits = torch.addmm(self.shared["b_router"], h, self.shared["W_router"])
        self._chance[rows] = logits.softmax(1)
        best, expert = self._chance[rows].max(1)
        self._expert[rows] = expert
        value, index = h.new_empty((len(h), k)), h.new_empty((len(h), k), dtype=torch.int32)
        for e in torch.unique(expert).tolist():
            here, latents = (expert == e).nonzero().view(-1), slice(e * size, (e + 1) * size)
            pre = torch.addmm(self.b_enc[latents], h[here], self.W_enc[latents].T)
            value[here], found = k_largest(pre, k)
            index[here] = found + e * size
        batch.entries.put(rows.start * k, index, value * best[:, None])

    def through(self, batch: Batch, rows: slice, slope: Tensor) -> Tensor:
        """Values are pre-activations times p_e."""
        k, chosen = self.config.k, self._expert[rows, None]
        best = self._chance[rows].gather(1, chosen)
        value = batch.entries.value[rows.start * k : rows.stop * k].view(-1, k)
        by_value = slope.view(-1, k)
        self._by_chance[rows] = (by_value * value).sum(1, keepdim=True) / best
        return (by_value * best).view(-1)

    def shared_gradients(self, batch: Batch) -> dict[str, Tensor]:
        """Those of the router too, by its softmax from what is by the chances."""
        chance, n_experts = self._chance, self.n_experts
        share = torch.bincount(self._expert, minlength=n_experts) / batch.n
        by_chance = (self.settings["balance"] * n_experts / batch.n) * share.expand_as(chance)
        by_chance = by_chance.scatter_add(1, self._expert[:, None], self._by_chance)
        by_logits = chance * (by_chance - (by_chance * chance).sum(1, keepdim=True))
        return super().shared_gradients(batch) | {
            "W_router": batch.h.T @ by_logits,
            "b_router": by_logits.sum(0),
        }

    def stored(self) -> dict[str, Any]:
        """With the router."""
        router = {name: self.shared[name].clone() for name in ("W_router", "b_router")}
        return {"activation": "switch", **router}
