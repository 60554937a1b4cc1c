"""One step of a dense architecture on one batch: what its jobs do and hand on to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from atlas.ingest.training.architectures.entries import sorted_by_latent, sums
from atlas.ingest.training.trainee import ByOutput, Moment

if TYPE_CHECKING:
    from atlas.ingest.training.architectures.dense import Dense

Latents = Mapping[str, Tensor]
"""Parameters that are one number for each latent, float32 (d_sae,), by name."""


@dataclass(frozen=True)
class Activated:
    """What an architecture makes of entries."""

    acts: Tensor
    """(m,) activations, 0 where an entry has a gradient but is not active."""
    penalty: Tensor
    """() summed over the entries."""
    gate: Tensor | None = None
    """(m,) activations of a second reconstruction, by a decoder that does not learn from it."""


@dataclass
class _Part:
    """The entries of some tokens."""

    row: Tensor
    """int32 (m,) of the batch."""
    latent: Tensor
    """int32 (m,)"""
    z: Tensor
    """float32 (m,), with the graph of what follows from them and from `p`."""
    p: Latents
    found: Activated
    decoded: Tensor
    """float32 (n, d_out) acts @ W_dec, by the entries."""
    gated: Tensor | None
    """The same for the gate."""
    by_gated: Tensor | None
    """The gradient of the loss by it."""
    tally: Tensor
    """See `Step.tally`."""


class Step:
    """The jobs of one step; an entry is a latent on a token that is active or has a gradient."""

    l0: float
    fired: Tensor
    """bool (d_sae,) which latents were active."""
    acts: Tensor
    """(m,) of all entries."""
    tally: Tensor
    """float64 (5 + d_out,): tokens, active entries, loss, Σ‖t - t̂‖², Σ‖t‖² and Σt."""
    by_encoder: list[Tensor]
    """Gradients by W_enc and by the architecture's own parameters."""
    by_decoder: list[Tensor]
    """Gradients by W_dec and b_dec."""

    def __init__(self, sae: Dense, x: Tensor, y: Tensor, moment: Moment) -> None:
        self.x, self.moment = x, moment
        self._sae, self._y = sae, y
        self._coefficient = sae.sparsity.at(moment.share)
        self.h = torch.empty_like(x)
        self.t = self.h if sae.shape.same else torch.empty_like(y)
        self.error = torch.empty_like(y)
        """Of the reconstructions: t̂ - t."""
        self._by_decoded = torch.empty_like(y)
        """The gradient of the loss by each reconstruction."""
        self._parts: dict[int, _Part] = {}
        self._by_z: dict[int, Tensor] = {}
        self._by_p: dict[int, list[Tensor]] = {}

    def code_and_differentiate(self, begin: int) -> None:
        """Both with nothing between them."""
        self.code(begin)
        self.differentiate(begin)

    @torch.no_grad()
    def code(self, begin: int) -> None:
        """Encode and decode the tokens from `begin` on, as many as are one job's."""
        sae, here = self._sae, slice(begin, begin + self._sae.rows)
        h = sae.conventions.read(self.x[here], out=self.h[here])
        t = h if sae.shape.same else sae.conventions.target(self._y[here], out=self.t[here])
        p = {name: value.detach().requires_grad_() for name, value in sae.latents.items()}
        p["norm"] = torch.linalg.vector_norm(sae.W_dec, dim=1).requires_grad_()

        pre = h @ sae.W_enc.T
        reached = pre > sae.least(p)
        place = reached.view(-1).nonzero().view(-1)
        z = pre.view(-1).index_select(0, place).requires_grad_()
        row = torch.div(place, pre.shape[1], rounding_mode="floor")
        latent = place.sub_(row * pre.shape[1]).int()
        offset = F.pad(reached.sum(1, dtype=torch.int32).cumsum(0, dtype=torch.int32), (1, 0))
        with torch.enable_grad():
            found = sae.activate(z, latent, p, self.moment)
            decoded = sums(sae.W_dec, latent, found.acts, offset)
            gated = None if found.gate is None else sums(sae.W_dec, latent, found.gate, offset)

        factor = 2 / len(self.x)
        error = torch.add(decoded.detach(), sae.b_dec, out=self.error[here]).sub_(t)
        torch.mul(error, factor, out=self._by_decoded[here])
        by_gated = None if gated is None else (gated.detach() + sae.b_dec - t).mul_(factor)
        errors, active = error.square().sum(), (found.acts.detach() > 0).sum()
        loss = errors + self._coefficient * found.penalty.detach()
        sizes = torch.stack([h.new_tensor(len(h)), active.to(h), loss, errors, t.square().sum()])
        tally = torch.cat([sizes.double(), t.sum(0, dtype=torch.float64)])
        row = row.int().add_(begin)
        self._parts[begin] = _Part(row, latent, z, p, found, decoded, gated, by_gated, tally)

    def follow(self, by_output: ByOutput) -> None:
        """Put the gradient of another loss of fidelity in place of the square error's."""
        own = self._sae.conventions
        scale = own.factor(own.output_scale, self.error)
        self._by_decoded = by_output((self.error + self.t + own.centre) / scale) / scale

    def differentiate(self, begin: int) -> None:
        """From those tokens' reconstructions to their entries and the latents' parameters."""
        part, here = self._parts[begin], slice(begin, begin + self._sae.rows)
        ends, by_ends = [part.decoded], [self._by_decoded[here]]
        if part.found.penalty.requires_grad:
            ends.append(part.found.penalty)
            by_ends.append(torch.full_like(part.found.penalty, self._coefficient / len(self.x)))
        if part.gated is not None and part.by_gated is not None:
            ends.append(part.gated)
            by_ends.append(part.by_gated)
        begins = [part.z, *part.p.values()]
        by_z, *by_p = torch.autograd.grad(ends, begins, by_ends, materialize_grads=True)
        self._by_z[begin], self._by_p[begin] = by_z, by_p

    @torch.no_grad()
    def gather(self) -> None:
        """Bring the entries of all tokens together, in the order of the latents."""
        begins = sorted(self._parts)
        parts = [self._parts[begin] for begin in begins]
        d_sae = len(self._sae.idle)
        latent = torch.cat([part.latent for part in parts])
        order, self._offset = sorted_by_latent(latent, d_sae)
        self._row = torch.cat([part.row for part in parts]).index_select(0, order)
        by_z = torch.cat([self._by_z[begin] for begin in begins])
        self._by_z_in_order = by_z.index_select(0, order)
        acts = torch.cat([part.found.acts.detach() for part in parts])
        self.acts = acts.index_select(0, order)
        self.fired = torch.zeros(d_sae, dtype=torch.bool, device=latent.device)
        self.fired[latent[acts > 0].long()] = True
        self.tally = torch.stack([part.tally for part in parts]).sum(0)
        self.l0 = (self.tally[1] / self.tally[0]).item()
        by_p = zip(*(self._by_p[begin] for begin in begins), strict=True)
        self._by_latents = dict(zip(parts[0].p, (torch.stack(g).sum(0) for g in by_p), strict=True))
        self._parts.clear()

    @torch.no_grad()
    def encoder_gradients(self) -> None:
        """Of the loss by W_enc and the latents' parameters."""
        by_W_enc = sums(self.h, self._row, self._by_z_in_order, self._offset)
        self.by_encoder = [by_W_enc, *(self._by_latents[name] for name in self._sae.latents)]

    @torch.no_grad()
    def decoder_gradients(self) -> None:
        """Of the loss by W_dec, less what would change lengths that are kept, and by b_dec."""
        sae, W_dec = self._sae, self._sae.W_dec
        by_W_dec = sums(self._by_decoded, self._row, self.acts, self._offset)
        if sae.by_W_dec is not None:
            by_W_dec.add_(sae.by_W_dec, alpha=sae.shape.d_out)
        norm = torch.linalg.vector_norm(W_dec, dim=1).clamp_min(1e-12)
        if sae.unit_norm:
            by_W_dec.addcmul_(W_dec, (by_W_dec * W_dec).sum(1, keepdim=True), value=-1)
        else:
            by_W_dec.addcmul_(W_dec, (self._by_latents["norm"] / norm)[:, None])
        self.by_decoder = [by_W_dec, self._by_decoded.sum(0)]

    def clipped(self, gradients: list[Tensor]) -> list[Tensor]:
        """The same, shorter if all gradients together are longer than wanted."""
        most = self._sae.config.clip * self._sae.shape.d_out or self._sae.CLIP
        squares = [gradient.square().sum() for gradient in self.by_encoder + self.by_decoder]
        factor = (most / torch.stack(squares).sum().sqrt().clamp_min(1e-12)).clamp_max(1)
        return [gradient * factor for gradient in gradients]
