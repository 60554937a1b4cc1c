"""TopK SAEs (Gao et al. 2024, arXiv 2406.04093): steps written by hand, sparse in both directions.

Only k of the latents are active on a token, so the gradients of decoder and encoder are sums over
n * k entries (token, latent). The entries are sorted by latent, and each gradient is then one
`embedding_bag` over the tokens of each latent. The tests hold them against autograd.

In training, h = x * input_scale - pre_bias has a mean norm of √d_in. pre_bias stays as it was
found, and the decoder's bias is trained apart from it: the encoder's own bias makes up for any
other value. The loss is the mean square error over tokens and dimensions of h.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from atlas.ingest.adam import Adam
from atlas.ingest.architectures.conventions import geometric_median
from atlas.ingest.trainee import ByOutput, Moment, Shape, TrainConfig
from atlas.sae import ROWS, SaeWeights
from atlas.selection import k_largest
from atlas.workers import Stage

_AUX_SHARE = 8
"""AuxK's loss is taken on one token in so many: a fair sample, as batches are shuffled."""


class TopK:
    """A TopK SAE in training (an `atlas.ingest.trainee.Trainee`)."""

    def __init__(
        self, shape: Shape, config: TrainConfig, generator: torch.Generator, device: torch.device
    ) -> None:
        d_in, d_sae = shape.d_in, config.d_sae
        self.config = config
        self.k_aux = max(1, d_in // 2)
        self.rows = ROWS if device.type == "cpu" else config.batch_tokens
        # A row is a latent in both matrices, so that a gradient's row is a sum over its entries.
        self.W_enc = torch.zeros(d_sae, d_in, device=device)
        self.b_enc = torch.zeros(d_sae, device=device)
        self.W_dec = torch.zeros(d_sae, d_in, device=device)
        self.b_dec = torch.zeros(d_in, device=device)
        self.pre_bias = torch.zeros(d_in, device=device)
        self.input_scale = torch.ones((), dtype=torch.float64)
        self.idle = torch.zeros(d_sae, dtype=torch.int64, device=device)
        """Tokens since each latent fired."""
        self._encoder = Adam(self.W_enc, self.b_enc)
        self._decoder = Adam(self.W_dec, self.b_dec)
        self._generator = generator
        # Tokens, Σ‖h - ĥ‖², Σ‖h‖² and Σh since quality was last asked for.
        self._tally = torch.zeros(3 + d_in, dtype=torch.float64, device=device)

    @torch.no_grad()
    def begin(self, sample: Tensor, y: Tensor) -> None:
        """Centre on the geometric median; decoder directions at random, the encoder along them."""
        d_sae, d_in = self.W_dec.shape
        centre = geometric_median(sample)
        norm = (sample - centre).norm(dim=1).mean().item()
        self.input_scale.fill_(math.sqrt(d_in) / norm if norm > 0 else 1.0)
        scale = self.input_scale.item()
        self.pre_bias.copy_(centre * scale)
        directions = torch.randn((d_sae, d_in), generator=self._generator).to(sample.device)
        self.W_dec.copy_(F.normalize(directions, dim=1))
        h = sample[: self.config.batch_tokens] * scale - self.pre_bias
        value, index = k_largest(h @ self.W_dec.T, self.config.k)
        decoded = F.embedding_bag(index, self.W_dec, per_sample_weights=value, mode="sum")
        # k directions that overlap add up to more than the input: begin with the best multiple.
        multiple = (h * decoded).sum() / decoded.square().sum().clamp_min(1e-12)
        self.W_enc.copy_(self.W_dec * multiple.clamp_min(0.1))

    def step(
        self, x: Tensor, y: Tensor, moment: Moment, by_output: ByOutput | None = None
    ) -> Iterator[Stage]:
        """One step of Adam on activations float32 (n, d_in), as stages of jobs."""
        step = _Step(self, x)
        rate = moment.schedule * self.config.peak_rate(x.shape[1])
        yield [partial(step.code, begin) for begin in range(0, len(x), self.rows)]
        yield [step.transpose]
        yield [partial(self._step_encoder, step, rate), partial(self._step_decoder, step, rate)]
        for tally in step.tallies:
            self._tally += tally

    def _step_encoder(self, step: _Step, rate: float) -> None:
        self._encoder.step(step.encoder_gradients(), rate)

    def _step_decoder(self, step: _Step, rate: float) -> None:
        self._decoder.step(step.decoder_gradients(), rate)
        self.W_dec.div_(torch.linalg.vector_norm(self.W_dec, dim=1, keepdim=True))

    def report(self) -> dict[str, float]:
        """1 - Σ‖h - ĥ‖² / Σ‖h - mean h‖² over all tokens since the last call; NaN without any."""
        n, errors, squares, *sums = self._tally.tolist()
        self._tally.zero_()
        spread = squares - sum(s * s for s in sums) / n if n else 0.0
        dead = (self.idle > self.config.dead_after()).double().mean().item()
        return {
            "explained_variance": 1 - errors / spread if spread > 0 else math.nan,
            "l0": float(self.config.k),
            "loss": errors / n if n else math.nan,
            "dead_share": dead,
        }

    def state(self) -> dict[str, Tensor]:
        """Parameters, conventions, moments, and how long each latent has been idle."""
        names = ("W_enc", "b_enc", "W_dec", "b_dec", "pre_bias", "input_scale", "idle")
        moments = self._encoder.state("encoder") | self._decoder.state("decoder")
        return {name: getattr(self, name) for name in names} | moments

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go to a state that `state` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def weights(self) -> SaeWeights:
        """The SAE as it is now; its tensors are copies."""
        return SaeWeights(
            architecture="topk",
            activation="topk",
            k=self.config.k,
            W_enc=self.W_enc.T.contiguous(),
            b_enc=self.b_enc.clone(),
            W_dec=self.W_dec.clone(),
            b_dec=self.b_dec + self.pre_bias,
            pre_bias=self.pre_bias.clone(),
            input_scale=self.input_scale.item(),
            output_scale=self.input_scale.item(),
        )


class _Step:
    """The jobs of one step and what they hand on to each other.

    Rows 0 … n-1 are the tokens. AuxK adds a row for each token that it is taken on: the same h,
    with the error of its own reconstruction. An entry is an active latent in a row.
    """

    def __init__(self, sae: TopK, x: Tensor) -> None:
        n, d_in = x.shape
        self._sae, self._x, self._scale = sae, x, sae.input_scale.item()
        self._dead = (sae.idle > sae.config.dead_after()).nonzero().view(-1)
        self._k_aux = min(sae.k_aux, len(self._dead))
        self._n_aux = -(-n // _AUX_SHARE) if self._k_aux else 0
        self._n_main = n * sae.config.k
        n_entries = self._n_main + self._n_aux * self._k_aux
        self._h = x.new_empty((n + self._n_aux, d_in))
        self._error = torch.empty_like(self._h)
        """Gradient of the loss by each row's reconstruction."""
        self._latent = x.new_empty(n_entries, dtype=torch.int32)
        self._value = x.new_empty(n_entries)
        self._slope = x.new_empty(n_entries)
        """Gradient of the loss by each entry's pre-activation."""
        self._row = torch.cat(
            [
                torch.arange(n, device=x.device).repeat_interleave(sae.config.k),
                torch.arange(n, len(self._h), device=x.device).repeat_interleave(self._k_aux),
            ]
        )
        self.tallies: list[Tensor] = []

    @torch.no_grad()
    def code(self, begin: int) -> None:
        """Encode and decode a chunk of tokens: fills its rows and entries."""
        sae, k, n = self._sae, self._sae.config.k, len(self._x)
        end = min(begin + sae.rows, n)
        h = torch.mul(self._x[begin:end], self._scale, out=self._h[begin:end])
        h.sub_(sae.pre_bias)
        pre = torch.addmm(sae.b_enc, h, sae.W_enc.T)
        value, index = k_largest(pre, k)
        decoded, slope = self._decode(value, index)
        error = decoded.add_(sae.b_dec).sub_(h)
        gradient = torch.mul(error, 2 / (n * h.shape[1]), out=self._error[begin:end])
        self._put(begin * k, value, index, slope(gradient))
        if self._n_aux:
            self._revive(begin, h, pre, error)
        sizes = [h.new_tensor([len(h)]), error.square().sum()[None], h.square().sum()[None]]
        self.tallies.append(torch.cat([*sizes, h.sum(0)]))

    def _revive(self, begin: int, h: Tensor, pre: Tensor, error: Tensor) -> None:
        """AuxK (A.2): the strongest dead latents reconstruct what the live ones left over."""
        sae = self._sae
        m = -(-len(h) // _AUX_SHARE)
        first = begin // _AUX_SHARE
        value, place = k_largest(pre[:m].index_select(1, self._dead), self._k_aux)
        index = self._dead.int()[place.long()]
        decoded, slope = self._decode(value, index)
        rows = slice(len(self._x) + first, len(self._x) + first + m)
        self._h[rows] = h[:m]
        # Few dead latents cannot explain the whole error, and would only be driven by it.
        alpha = sae.config.aux_alpha * min(1.0, len(self._dead) / sae.k_aux)
        gradient = torch.add(decoded, error[:m], out=self._error[rows])
        gradient.mul_(alpha * 2 / (self._n_aux * h.shape[1]))
        self._put(self._n_main + first * self._k_aux, value, index, slope(gradient))

    def _decode(self, value: Tensor, index: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Acts @ W_dec, and the gradient by the pre-activations as a function of that by it."""
        with torch.enable_grad():
            acts = value.requires_grad_()
            decoded = F.embedding_bag(index, self._sae.W_dec, per_sample_weights=acts, mode="sum")

        def slope(gradient: Tensor) -> Tensor:
            (by_acts,) = torch.autograd.grad(decoded, acts, gradient)
            return by_acts.mul_(acts.detach() > 0)

        return decoded.detach(), slope

    def _put(self, first: int, value: Tensor, index: Tensor, slope: Tensor) -> None:
        here = slice(first, first + value.numel())
        self._value[here] = value.detach().view(-1)
        self._latent[here] = index.view(-1)
        self._slope[here] = slope.view(-1)

    @torch.no_grad()
    def transpose(self) -> None:
        """Sort the entries by latent, those of one latent by row; count who fired."""
        idle, main = self._sae.idle, slice(self._n_main)
        fired = torch.bincount(self._latent[main], self._value[main], minlength=len(idle)) > 0
        idle.add_(len(self._x)).masked_fill_(fired, 0)
        latent, order = self._latent.sort(stable=True)
        latents = torch.arange(len(idle), dtype=torch.int32, device=latent.device)
        self._first = torch.searchsorted(latent, latents)
        self._row = self._row.index_select(0, order)
        self._value = self._value.index_select(0, order)
        self._slope = self._slope.index_select(0, order)

    def encoder_gradients(self) -> list[Tensor]:
        """Of the loss by W_enc and b_enc."""
        ones = self._h.new_ones((len(self._h), 1))
        return [self._sum(self._h, self._slope), self._sum(ones, self._slope).view(-1)]

    def decoder_gradients(self) -> list[Tensor]:
        """Of the loss by W_dec, less what would change the length of its rows, and by b_dec."""
        W_dec = self._sae.W_dec
        by_W_dec = self._sum(self._error, self._value)
        by_W_dec.addcmul_(W_dec, (by_W_dec * W_dec).sum(1, keepdim=True), value=-1)
        return [by_W_dec, self._error[: len(self._x)].sum(0)]

    def _sum(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Per latent, the weighted sum of the rows of its entries: (d_sae, rows.shape[1])."""
        return F.embedding_bag(self._row, rows, self._first, per_sample_weights=weight, mode="sum")
