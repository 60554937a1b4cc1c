"""One step of the TopK family on one batch: what its jobs do and hand on to each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from atlas.ingest.training.architectures.entries import Entries, sorted_by_latent, sums
from atlas.ingest.training.trainee import ByOutput
from atlas.workers import Stage

if TYPE_CHECKING:
    from atlas.ingest.training.architectures.sparse import Sparse

_AUX_SHARE = 8
"""AuxK's loss is taken on one token in so many: a fair sample, as batches are shuffled."""


class Batch:
    """The activations of a step, in chunks of rows, and all that is computed of them.

    Reconstructions are sums of bags of entries: bag i * n_prefixes + p holds the latents of row i
    that lie in prefix p and in none before it. AuxK adds a bag for each row that it is taken on.
    """

    entries: Entries
    """What `Sparse.encode` chose; their values are what is decoded."""

    def __init__(self, sae: Sparse, x: Tensor, y: Tensor) -> None:
        self._sae, self._x, self._y = sae, x, y
        self.n, self._n_prefixes = len(x), len(sae.prefixes)
        self.h = torch.empty_like(x)
        """float32 (n, d_in): see `Conventions`; filled by `read`."""
        self.target = self.h if sae.shape.same else torch.empty_like(y)
        """float32 (n, d_out): t; filled by `decode`."""
        self._n_bags = self.n * self._n_prefixes
        self._dead = sae.revivable() if sae.config.aux_alpha else sae.idle[:0]
        self._k_aux = min(sae.k_aux, len(self._dead))
        self._n_aux = -(-self.n // _AUX_SHARE) if self._k_aux else 0
        self._by_bag = x.new_empty((self._n_bags + self._n_aux, sae.shape.d_out))
        """First each bag's error, then the gradient of the loss by its sum."""
        self._graphs: dict[int, tuple[Tensor, Tensor]] = {}
        # By the first row of a chunk: gradients by the entries' pre-activations, and AuxK's entries
        # (row, bag, latent, value, slope); the length of the whole reconstructions' errors.
        self._slopes: dict[int, Tensor] = {}
        self._aux: dict[int, tuple[Tensor, ...]] = {}
        self._distances: dict[int, Tensor] = {}
        self._by_output: Tensor | None = None

    def by_rows(self, *jobs: Callable[[slice], object]) -> Stage:
        """A stage with one job for each chunk of rows, which does one thing after another."""

        def in_turn(rows: slice) -> None:
            for job in jobs:
                job(rows)

        step = self._sae.rows
        return [partial(in_turn, slice(i, min(i + step, self.n))) for i in range(0, self.n, step)]

    def read(self, rows: slice) -> Tensor:
        """Fill those rows of h, and give them."""
        return self._sae.conventions.read(self._x[rows], out=self.h[rows])

    def decode(self, rows: slice) -> None:
        """Reconstruct the target from the entries of each prefix of the latents."""
        sae, bags = self._sae, self._bags(rows)
        h = self.h[rows]
        target = h if sae.shape.same else sae.conventions.target(self._y[rows], self.target[rows])
        offset = self.entries.offset[bags.start : bags.stop + 1]
        first, last = int(offset[0]), int(offset[-1])
        # Copies, since other jobs write to other parts of the same tensors before the way back.
        latent = self.entries.latent[first:last].clone()
        value = self.entries.value[first:last].clone()
        with torch.enable_grad():
            decoded = sums(sae.W_dec, latent, value.requires_grad_(), offset - first)
        self._graphs[rows.start] = decoded, value
        error = self._by_bag[bags].view(len(h), self._n_prefixes, -1)
        torch.cumsum(decoded.detach().view_as(error), 1, out=error)
        error.add_(sae.shared["b_dec"]).sub_(target.unsqueeze(1))
        skip = sae.skip(h)
        if skip is not None:
            error.add_(skip.unsqueeze(1))
        self._distances[rows.start] = error[:, -1].norm()

    def follow(self, by_output: ByOutput) -> None:
        """Put the gradient of another loss of fidelity in place of the mean square error's."""
        conventions = self._sae.conventions
        last = self._by_bag[: self._n_bags].view(self.n, self._n_prefixes, -1)[:, -1]
        scale = conventions.factor(conventions.output_scale, last)
        y = (last + self.target + conventions.centre) / scale
        self._by_output = by_output(y) / scale

    def descend(self, rows: slice) -> None:
        """From errors to the gradients by bags, and by the pre-activations of the entries."""
        sae, bags, prefixes = self._sae, self._bags(rows), self._n_prefixes
        if self._n_aux:
            self._revive(rows)
        by_bag = self._by_bag[bags]
        by_bag.mul_(2 / (prefixes * self.n * by_bag.shape[1]))
        each = by_bag.view(-1, prefixes, by_bag.shape[1])
        if self._by_output is not None:
            torch.mul(self._by_output[rows], 1 / prefixes, out=each[:, -1])
        for p in reversed(range(prefixes - 1)):
            each[:, p].add_(each[:, p + 1])
        decoded, value = self._graphs.pop(rows.start)
        (slope,) = torch.autograd.grad(decoded, value, by_bag)
        slope.mul_(value.detach() > 0)
        self._slopes[rows.start] = sae.through(self, rows, slope)

    def _revive(self, rows: slice) -> None:
        """AuxK (A.2): the strongest dead latents reconstruct what the live ones left over."""
        sae, prefixes, k = self._sae, self._n_prefixes, self._k_aux
        m = -(-(rows.stop - rows.start) // _AUX_SHARE)
        first = self._n_bags + rows.start // _AUX_SHARE
        error = self._by_bag[self._bags(rows)][prefixes - 1 :: prefixes][:m]
        weights = sae.W_enc[self._dead]
        pre = torch.addmm(sae.b_enc[self._dead], self.h[rows][:m], weights.T)
        # The largest before the ReLU, and its slope taken for 1: a latent that is never above 0
        # would not come back otherwise.
        value, place = pre.topk(k, dim=1, sorted=False)
        latent = self._dead[place.view(-1)].int()
        bag = torch.arange(m, dtype=torch.int32, device=latent.device).repeat_interleave(k)
        offset = torch.arange(0, m * k + 1, k, dtype=torch.int32, device=latent.device)
        with torch.enable_grad():
            value = value.relu_().view(-1).requires_grad_()
            decoded = sums(sae.W_dec, latent, value, offset)
        gradient = torch.add(decoded.detach(), error, out=self._by_bag[first : first + m])
        # Few dead latents cannot explain the whole error, and would only be driven by it.
        alpha = sae.config.aux_alpha * min(1.0, len(self._dead) / sae.k_aux)
        gradient.mul_(alpha * 2 / (self._n_aux * error.shape[1]))
        (slope,) = torch.autograd.grad(decoded, value, gradient)
        self._aux[rows.start] = bag + rows.start, bag + first, latent, value.detach(), slope

    def sort(self) -> None:
        """Sort the entries by latent, those of one latent by row; count who fired."""
        idle, entries = self._sae.idle, self.entries
        fired = torch.bincount(entries.latent, entries.value, minlength=len(idle)) > 0
        idle.add_(self.n).masked_fill_(fired, 0)
        self._n_fired = (entries.value > 0).sum()
        bag = entries.bag()
        row = bag if self._n_prefixes == 1 else bag // self._n_prefixes
        slope = torch.cat(_in_order(self._slopes))
        found = [(row, bag, entries.latent, entries.value, slope), *_in_order(self._aux)]
        row, bag, latent, value, slope = (torch.cat(parts) for parts in zip(*found, strict=True))
        order, self._offset = sorted_by_latent(latent, len(idle))
        self._row, self._bag = row.index_select(0, order), bag.index_select(0, order)
        self._value, self._slope = value.index_select(0, order), slope.index_select(0, order)

    def by_encoder(self, latents: slice) -> list[Tensor]:
        """Gradients by those rows of W_enc and b_enc."""
        here, offset = self._of(latents)
        ones = self.h.new_ones((self.n, 1))
        row, slope = self._row[here], self._slope[here]
        return [sums(rows, row, slope, offset).view(-1, rows.shape[1]) for rows in (self.h, ones)]

    def by_decoder(self, latents: slice) -> Tensor:
        """Gradient by those rows of W_dec."""
        here, offset = self._of(latents)
        return sums(self._by_bag, self._bag[here], self._value[here], offset)

    def by_reconstruction(self) -> Tensor:
        """Gradient by the whole reconstructions, (n, d_out): what is added to every prefix."""
        return self._by_bag[: self._n_bags : self._n_prefixes]

    def tally(self) -> Tensor:
        """Entries, Σ‖t - ŷ‖², Σ‖t‖² and Σt, float64 (3 + d_out,)."""
        distances = torch.stack(_in_order(self._distances)).double()
        numbers = [
            self._n_fired.double(),
            distances.square().sum(),
            self.target.norm().double() ** 2,
        ]
        return torch.cat([torch.stack(numbers), self.target.sum(0).double()])

    def _bags(self, rows: slice) -> slice:
        return slice(rows.start * self._n_prefixes, rows.stop * self._n_prefixes)

    def _of(self, latents: slice) -> tuple[slice, Tensor]:
        """The sorted entries of some latents, and their offsets among them."""
        offset = self._offset[latents.start : latents.stop + 1]
        first, last = int(offset[0]), int(offset[-1])
        return slice(first, last), offset - first


def _in_order(found: dict[int, Any]) -> list[Any]:
    return [found[i] for i in sorted(found)]
