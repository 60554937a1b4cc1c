"""Steps of the TopK family, written by hand and sparse in both directions.

An architecture of this family chooses a few latents for each token; how, is all that its own module
says. The rest is the same for all: only the chosen entries (row, latent, value) are decoded, and
the gradients of decoder and encoder are sums over the entries of each latent, one `embedding_bag`
over entries sorted by latent. The tests hold every gradient against autograd.

The loss is the mean square error over tokens and dimensions of the target t, which has a mean norm
of √d_out; AuxK (Gao et al. 2024, A.2) is added where latents are dead. The rows of W_dec keep their
length, and what would change it is taken out of their gradient. pre_bias stays as it was found, and
the decoder's bias is trained apart from it: the encoder's own bias makes up for any other value.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from atlas.ingest.training.adam import Adam
from atlas.ingest.training.architectures.batch import Batch
from atlas.ingest.training.architectures.conventions import (
    Conventions,
    best_multiple,
    random_directions,
)
from atlas.ingest.training.architectures.entries import sorted_by_latent, sums
from atlas.ingest.training.architectures.settings import Setting, chosen
from atlas.ingest.training.trainee import ByOutput, Moment, Shape, TrainConfig
from atlas.sae import SaeWeights
from atlas.workers import Job, Stage, run_here

_CACHED = 2**20
"""Pre-activations of one job, about: few enough to stay in a cache, and so many that the threads
are not kept waiting for each other by operations of a few microseconds."""

_PART = 2048
"""Latents whose gradients and optimizer are one job's."""


class Sparse:
    """A dictionary in training (a `Trainee`) that chooses its entries.

    What an architecture says: `encode` (which latents are active, and how strongly), `after` (what
    else a step changes) and `stored` (how it is computed once it is trained).
    """

    SETTINGS: ClassVar[Mapping[str, Setting]] = {}
    """The architecture's own numbers."""

    RATE: ClassVar[float] = 1.5
    """Learning rate as a multiple of `TrainConfig.peak_rate`."""

    CLIP: ClassVar[float] = 0.01
    """Greatest length of all gradients together, where `TrainConfig.clip` does not say. Of the size
    of the last gradients: the first ones, several times as long, would fill Adam's second moments
    and slow down what follows (explained variance by .002 to .006 after 200k tokens)."""

    BY_ROW: ClassVar[bool] = False
    """Whether `encode` is one stage of jobs, each of which completes the entries of its rows."""

    def __init__(
        self, shape: Shape, config: TrainConfig, generator: torch.Generator, device: torch.device
    ) -> None:
        d_sae = config.d_sae
        self.shape, self.config, self.device = shape, config, device
        self.settings = chosen(self.SETTINGS, config)
        few = max(256, min(1024, _CACHED // d_sae))
        self.rows = few if device.type == "cpu" else config.batch_tokens
        """Rows that are one job's."""
        self.prefixes: tuple[int, ...] = (d_sae,)
        """The latents below each of these shall reconstruct the target by themselves."""
        self.conventions = Conventions(shape, device)
        # A row is a latent in both matrices, so that a gradient's row is a sum over its entries.
        self.W_enc = torch.zeros(d_sae, shape.d_in, device=device)
        self.b_enc = torch.zeros(d_sae, device=device)
        self.W_dec = torch.zeros(d_sae, shape.d_out, device=device)
        self.by_W_dec: Tensor | None = None
        """A gradient (d_sae, d_out), in units of the loss, that the next step takes as well."""
        self.shared = {"b_dec": torch.zeros(shape.d_out, device=device)}
        """Parameters that belong to no latent."""
        self.idle = torch.zeros(d_sae, dtype=torch.int64, device=device)
        """Tokens since each latent fired."""
        self.k_aux = max(1, shape.d_in // 2)
        self._generator = generator
        self._owners: dict[str, _Owner] = {}
        self._forget()

    # What an architecture says

    def encode(self, batch: Batch) -> Iterator[Stage]:
        """Set `batch.entries`: of each row, or of each of its prefixes, the active latents."""
        raise NotImplementedError

    def skip(self, h: Tensor) -> Tensor | None:
        """A part of the reconstructions of h (n, d_in) that is not sparse: (n, d_out)."""
        return None

    def through(self, batch: Batch, rows: slice, slope: Tensor) -> Tensor:
        """The gradient by the pre-activations of those rows' entries, from that by their values."""
        return slope

    def shared_gradients(self, batch: Batch) -> dict[str, Tensor]:
        """Of the parameters in `shared`."""
        return {"b_dec": batch.by_reconstruction().sum(0)}

    def after(self, batch: Batch, moment: Moment) -> None:
        """What else a step changes."""

    def revivable(self) -> Tensor:
        """The latents, int64, that AuxK shall bring into use: those that are dead."""
        return (self.idle > self.config.dead_after()).nonzero().view(-1)

    def lengths(self, W_dec: Tensor) -> Tensor:
        """Of decoder rows (m, d_out), what is kept at 1: (m, 1)."""
        lengths: Tensor = W_dec.norm(dim=1, keepdim=True)
        return lengths

    def along_lengths(self, W_dec: Tensor) -> Tensor:
        """The gradient of `lengths` by the rows, up to a factor: (m, d_out)."""
        return W_dec

    def stored(self) -> dict[str, Any]:
        """Fields of `SaeWeights` that differ from one architecture to another."""
        raise NotImplementedError

    def own_state(self) -> dict[str, Tensor]:
        """What later steps depend on beside parameters, not copied."""
        return {}

    # What is the same for all

    def pre(self, h: Tensor) -> Tensor:
        """Pre-activations (m, d_sae) of h (m, d_in), valid until this thread asks for others."""
        out = _room(len(h), self.config.d_sae) if h.device.type == "cpu" else None
        return torch.addmm(self.b_enc, h, self.W_enc.T, out=out)

    def begin(self, x: Tensor, y: Tensor) -> None:
        """Choose conventions; decoder directions at random, the encoder along them.

        Where x is not y, the encoder is random too, and each latent's decoder direction is what the
        tokens on which it is active have in common.
        """
        self.conventions.choose(x, y)
        d_sae, device = self.config.d_sae, x.device
        self.W_enc.copy_(random_directions(d_sae, self.shape.d_in, self._generator, device))
        first = slice(self.config.batch_tokens)
        batch, target = Batch(self, x[first], y[first]), self.conventions.target(y[first])
        run_here(self.encode(batch))
        code, n_prefixes = batch.entries, len(self.prefixes)
        if self.shape.same:
            self.W_dec.copy_(self.W_enc)
        else:
            order, offset = sorted_by_latent(code.latent, d_sae)
            row = (code.bag() // n_prefixes).index_select(0, order)
            self.W_dec.copy_(sums(target, row, code.value.index_select(0, order), offset))
            random = random_directions(d_sae, self.shape.d_out, self._generator, device)
            self.W_dec.add_(random, alpha=1e-6)  # for those that are never active
        self._keep_lengths(slice(None))
        decoded = sums(self.W_dec, code.latent, code.value, code.offset)
        multiple = best_multiple(target, decoded.view(batch.n, n_prefixes, -1).sum(1))
        self.W_enc.mul_(multiple)

    def step(
        self, x: Tensor, y: Tensor, moment: Moment, by_output: ByOutput | None = None
    ) -> Iterator[Stage]:
        """One step of Adam on activations, as stages of jobs."""
        batch = Batch(self, x, y)
        coding = self.encode(batch)
        if self.BY_ROW and by_output is None:
            decoding = batch.by_rows(batch.decode, batch.descend)
            by_rows = [_in_turn(*jobs) for jobs in zip(next(coding), decoding, strict=True)]
        else:
            yield from coding
            if by_output is None:
                by_rows = batch.by_rows(batch.decode, batch.descend)
            else:
                yield batch.by_rows(batch.decode)
                batch.follow(by_output)
                by_rows = batch.by_rows(batch.descend)
        yield _and_then(by_rows, batch.sort)
        owners = self._all_owners().values()
        rate = self.RATE * moment.schedule * self.config.peak_rate(self.shape.d_in)
        gathering: Stage = [partial(owner.gather, batch) for owner in owners]
        gathering.append(partial(self._note, batch, moment))
        if self.config.d_sae <= _PART:
            yield _and_then(gathering, partial(self._descend, rate))
        else:
            yield gathering
            shrink = self._shrink()
            yield [partial(owner.step, rate, shrink) for owner in owners]

    def _note(self, batch: Batch, moment: Moment) -> None:
        self._tally += batch.tally()
        self._n_seen += batch.n
        self.after(batch, moment)

    def _descend(self, rate: float) -> None:
        shrink = self._shrink()
        for owner in self._all_owners().values():
            owner.step(rate, shrink)

    def report(self) -> dict[str, float]:
        """Of all tokens since the last call; NaN without any.

        explained_variance: 1 - Σ‖t - ŷ‖² / Σ‖t - mean t‖²; loss: mean square error.
        """
        n = self._n_seen
        entries, errors, squares, *sums_of_t = self._tally.tolist()
        spread = squares - sum(s * s for s in sums_of_t) / n if n else 0.0
        self._forget()
        return {
            "explained_variance": 1 - errors / spread if spread > 0 else math.nan,
            "l0": entries / n if n else math.nan,
            "loss": errors / (n * self.shape.d_out) if n else math.nan,
            "dead_share": (self.idle > self.config.dead_after()).double().mean().item(),
        }

    def state(self) -> dict[str, Tensor]:
        """Parameters, conventions, moments, and how long each latent has been idle."""
        state = {"W_enc": self.W_enc, "b_enc": self.b_enc, "W_dec": self.W_dec, "idle": self.idle}
        state |= self.shared | self.conventions.state() | self.own_state()
        for name, owner in self._all_owners().items():
            state |= owner.adam.state(name)
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go to a state that `state` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def weights(self) -> SaeWeights:
        """The dictionary as it is now; its tensors are copies."""
        conventions = self.conventions
        fields: dict[str, Any] = {
            "architecture": self.config.architecture,
            "k": self.config.k,
            "W_enc": self.W_enc.T.contiguous(),
            "b_enc": self.b_enc.clone(),
            "W_dec": self.W_dec.clone(),
            "b_dec": self.shared["b_dec"] + conventions.centre,
            "pre_bias": conventions.pre_bias.clone(),
            "input_scale": conventions.input_scale[0].item(),
            "output_scale": conventions.output_scale[0].item(),
        }
        return SaeWeights(**fields | self.stored())

    def _all_owners(self) -> dict[str, _Owner]:
        """Who has which parameters: encoder and decoder of some latents, and the shared ones."""
        if not self._owners:
            for begin in range(0, self.config.d_sae, _PART):
                part = slice(begin, begin + _PART)
                self._owners[f"encoder{begin}"] = _Owner(
                    [self.W_enc[part], self.b_enc[part]], partial(self._by_encoder, part)
                )
                self._owners[f"decoder{begin}"] = _Owner(
                    [self.W_dec[part]],
                    partial(self._by_decoder, part),
                    partial(self._keep_lengths, part),
                )
            self._owners["shared"] = _Owner(list(self.shared.values()), self._by_shared)
        return self._owners

    def _by_encoder(self, part: slice, batch: Batch) -> list[Tensor]:
        return batch.by_encoder(part)

    def _by_decoder(self, part: slice, batch: Batch) -> list[Tensor]:
        """Less what would change the lengths of the rows."""
        gradient, along = batch.by_decoder(part), self.along_lengths(self.W_dec[part])
        if self.by_W_dec is not None:
            gradient.add_(self.by_W_dec[part])
        much = (gradient * along).sum(1, keepdim=True) / along.square().sum(1, keepdim=True)
        return [gradient.addcmul_(along, much, value=-1)]

    def _by_shared(self, batch: Batch) -> list[Tensor]:
        gradients = self.shared_gradients(batch)
        return [gradients[name] for name in self.shared]

    def _keep_lengths(self, part: slice) -> None:
        self.W_dec[part].div_(self.lengths(self.W_dec[part]))

    def _shrink(self) -> float:
        """What all gradients are multiplied with, so that they are not too long together."""
        most = self.config.clip or self.CLIP
        length = math.sqrt(sum(owner.square.item() for owner in self._all_owners().values()))
        return most / length if length > most else 1.0

    def _forget(self) -> None:
        # Entries, Σ‖t - ŷ‖², Σ‖t‖² and Σt since the last report.
        self._n_seen = 0
        self._tally = torch.zeros(3 + self.shape.d_out, dtype=torch.float64, device=self.device)


class _Owner:
    """Some of the parameters, their optimizer and their gradients of one step."""

    def __init__(
        self,
        parameters: list[Tensor],
        gradients: Callable[[Batch], list[Tensor]],
        finish: Callable[[], None] = lambda: None,
    ) -> None:
        """finish: what follows a step of the optimizer."""
        self.adam = Adam(*parameters)
        self._gradients, self._finish = gradients, finish

    def gather(self, batch: Batch) -> None:
        self._found = self._gradients(batch)
        self.square = torch.stack([gradient.square().sum() for gradient in self._found]).sum()

    def step(self, rate: float, shrink: float) -> None:
        if shrink < 1:
            for gradient in self._found:
                gradient.mul_(shrink)
        self.adam.step(self._found, rate)
        self._finish()


_thread = threading.local()


def _room(n: int, d: int) -> Tensor:
    """Memory of this thread for float32 (n, d); megabytes from the system are slow to come by."""
    kept: Tensor | None = getattr(_thread, "room", None)
    if kept is None or len(kept) < n * d:
        kept = _thread.room = torch.empty(n * d)
    return kept[: n * d].view(n, d)


def _and_then(jobs: Stage, last: Job) -> Stage:
    """Jobs of which the one that ends last does `last` too, which saves a stage of its own."""
    lock, left = threading.Lock(), [len(jobs)]

    def run(job: Job) -> None:
        job()
        with lock:
            left[0] -= 1
            is_last = not left[0]
        if is_last:
            last()

    return [partial(run, job) for job in jobs]


def _in_turn(*jobs: Job) -> Job:
    def run() -> None:
        for job in jobs:
            job()

    return run
