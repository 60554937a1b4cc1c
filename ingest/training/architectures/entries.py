"""Active latents as a list of entries (row, latent, value), and weighted sums over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Entries:
    """Active latents in bags, those of one bag after another's.

    A bag is what is decoded together: a row, or the part of a row that lies in one prefix.
    """

    offset: Tensor
    """int32 (n_bags + 1,): the entries of bag i are offset[i] … offset[i + 1] - 1."""
    latent: Tensor
    """int32 (m,)"""
    value: Tensor
    """float32 (m,) not negative."""

    @classmethod
    def of_k(cls, n: int, k: int, device: torch.device) -> Entries:
        """Room for n bags of k entries each, to be filled by `put`."""
        offset = torch.arange(0, n * k + 1, k, dtype=torch.int32, device=device)
        latent = torch.empty(n * k, dtype=torch.int32, device=device)
        return cls(offset, latent, torch.empty(n * k, device=device))

    def put(self, first: int, latent: Tensor, value: Tensor) -> None:
        """Fill the entries from `first` on."""
        self.latent[first : first + latent.numel()] = latent.view(-1)
        self.value[first : first + value.numel()] = value.view(-1)

    @classmethod
    def together(cls, parts: Sequence[Entries]) -> Entries:
        """The bags of all parts, one part's after another's."""
        n = torch.cat([part.offset.diff() for part in parts])
        latent, value = (
            torch.cat(all) for all in zip(*((p.latent, p.value) for p in parts), strict=True)
        )
        return cls(_offsets(n), latent, value)

    def where(self, kept: Tensor) -> Entries:
        """Those for which `kept`, bool (m,), is true."""
        before = _offsets(kept)
        return Entries(before[self.offset.long()], self.latent[kept], self.value[kept])

    def in_bags(self, bag: Tensor, n: int) -> Entries:
        """The same in n other bags; bag int32 (m,) is that of each entry, in ascending order."""
        bags = torch.arange(n + 1, dtype=torch.int32, device=bag.device)
        return Entries(torch.searchsorted(bag, bags, out_int32=True), self.latent, self.value)

    def bag(self) -> Tensor:
        """int32 (m,) the bag of each entry."""
        bags = torch.arange(len(self.offset) - 1, dtype=torch.int32, device=self.offset.device)
        return bags.repeat_interleave(self.offset.diff(), output_size=len(self.latent))


def _offsets(counts: Tensor) -> Tensor:
    """Where bags of so many entries begin, and where the last one ends."""
    return F.pad(counts.cumsum(0, dtype=torch.int32), (1, 0))


def sums(rows: Tensor, index: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
    """Weighted sums of the rows (n, d) that each bag names: float32 (len(offset) - 1, d).

    index int32 (m,) of a row, weight float32 (m,); bag i is offset[i] … offset[i + 1] - 1.
    """
    return F.embedding_bag(
        index, rows, offset, per_sample_weights=weight, mode="sum", include_last_offset=True
    )


def sorted_by_latent(latent: Tensor, d_sae: int) -> tuple[Tensor, Tensor]:
    """Give (order int32 (m,), offset int32 (d_sae + 1,)) of entries' latents int32 (m,).

    The entries order[offset[i]] … order[offset[i + 1] - 1] are latent i's, in the order that they
    had.
    """
    if latent.device.type == "cpu":
        # The list is a matrix of one row in compressed form, whose transpose SciPy makes by
        # counting: twice as fast as a sort.
        m = len(latent)
        places, ends = np.arange(m, dtype=np.int32), np.array([0, m], dtype=np.int32)
        columns = csr_array((places, latent.numpy(), ends), shape=(1, d_sae)).tocsc()
        return torch.from_numpy(columns.data), torch.from_numpy(columns.indptr)
    in_order, order = latent.sort(stable=True)
    latents = torch.arange(d_sae + 1, dtype=torch.int32, device=latent.device)
    return order.int(), torch.searchsorted(in_order, latents, out_int32=True)
