"""Matryoshka SAEs (Bussmann et al. 2025, arXiv 2503.17547): BatchTopK in nested dictionaries.

    encode      as BatchTopK, among all latents
    decode      acts @ W_dec + b_dec, and the same of the latents of each prefix alone
    loss        mean over the prefixes of the mean square error, and AuxK for the whole
    post-step   decoder rows to unit length; the threshold of inference
    stored as   'jumprelu' with one threshold for all latents

Latents come in groups, each twice as large as the one before; a prefix is a group and all before.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import torch

from atlas.ingest.training.architectures.batch import Batch
from atlas.ingest.training.architectures.batchtopk import BatchTopK
from atlas.ingest.training.architectures.settings import Setting
from atlas.ingest.training.trainee import Shape, TrainConfig
from atlas.workers import Stage


class Matryoshka(BatchTopK):
    """In training."""

    SETTINGS: ClassVar = {"prefixes": Setting(5, "nested dictionaries, each half of the next")}

    def __init__(
        self, shape: Shape, config: TrainConfig, generator: torch.Generator, device: torch.device
    ) -> None:
        super().__init__(shape, config, generator, device)
        n = max(1, min(int(self.settings["prefixes"]), config.d_sae.bit_length()))
        ends = [config.d_sae * (2**i - 1) // 2**n for i in range(1, n)]
        self.prefixes = (*dict.fromkeys(end for end in ends if end), config.d_sae)

    def encode(self, batch: Batch) -> Iterator[Stage]:
        """Each row's entries in a bag for each group; they are sorted by latent already."""
        yield from super().encode(batch)
        yield [partial(self._divide, batch)]

    def _divide(self, batch: Batch) -> None:
        ends = torch.tensor(self.prefixes, dtype=torch.int32, device=batch.h.device)
        entries = batch.entries
        group = torch.searchsorted(ends, entries.latent, right=True, out_int32=True)
        bag = entries.bag() * len(ends) + group
        batch.entries = entries.in_bags(bag, batch.n * len(ends))
