"""A trained sparse dictionary: its weights in one canonical form, encoding, decoding, files.

Whatever the architecture and wherever it comes from:

    x    = normalize(input)                     per token; most SAEs have 'none'
    h    = x * input_scale - pre_bias
    pre  = h @ W_enc + b_enc
    acts = activation(pre)                      sparse, never negative
    ŷ    = denormalize((acts @ W_dec + b_dec + (x * input_scale) @ W_skip) / output_scale)

An SAE's ŷ stands for its own input, a transcoder's for the activation at another hook point, and a
crosscoder reads and writes the activations of several hook points side by side in one vector.

What architectures compute beside that is folded into it: a gated SAE is a JumpReLU with the
threshold b_mag - b_gate * exp(r_mag) (Rajamanoharan et al. 2024a, §3.3), ProLU one with the
threshold max(0, -b), and BatchTopK one with its threshold of inference.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from atlas.errors import BadInput
from atlas.selection import k_largest
from atlas.workers import run_each

ROWS = 512
"""Rows that are encoded at a time on a CPU: their pre-activations stay in the cache."""


@dataclass(frozen=True)
class SparseCode:
    """Activations of n inputs, one input's after another's: compressed sparse rows."""

    offset: Tensor
    """int32 (n + 1,): the entries of input i are offset[i] … offset[i + 1] - 1."""
    index: Tensor
    """int32 (m,) which latents, in no order."""
    value: Tensor
    """float32 (m,) how strongly; an entry of 0 is none."""

    def __len__(self) -> int:
        """How many inputs."""
        return len(self.offset) - 1

    def dense(self, d_sae: int) -> Tensor:
        """All activations, float32 (n, d_sae)."""
        rows = torch.repeat_interleave(self.offset.diff())
        acts = self.value.new_zeros((len(self), d_sae))
        return acts.index_put_((rows, self.index.long()), self.value, accumulate=True)


@dataclass(frozen=True)
class SaeWeights:
    """A dictionary as the atlas stores it. All tensors are float32 and on one device."""

    architecture: str
    """What it was trained as: 'topk', 'gated', 'matryoshka', … (`atlas ingest --arch list`)."""
    activation: str
    """How it is computed: a key of `ACTIVATIONS`."""
    k: int | None
    """Most latents active at once for 'topk', 'switch', 'groupmax' and 'matching_pursuit'; for
    others what training aimed at."""
    W_enc: Tensor
    """(d_in, d_sae)"""
    b_enc: Tensor
    """(d_sae,)"""
    W_dec: Tensor
    """(d_sae, d_out)"""
    b_dec: Tensor
    """(d_out,) in scaled units."""
    pre_bias: Tensor
    """(d_in,) in scaled units."""
    input_scale: float
    output_scale: float
    """The same as `input_scale` where ŷ stands for the input."""
    threshold: Tensor | None = None
    """(d_sae,) for 'jumprelu': what is not above it, or not above 0, is no activation; and for
    'matching_pursuit', the same for all: it ends when less than this length is left."""
    W_skip: Tensor | None = None
    """(d_in, d_out)"""
    W_router: Tensor | None = None
    """(d_in, n_experts) for 'switch'; expert e has latents e * d_sae / n_experts and so on."""
    b_router: Tensor | None = None
    """(n_experts,)"""
    normalize: str = "none"
    """A key of `NORMALIZATIONS`."""

    @property
    def d_in(self) -> int:
        """Width of the activations it reads."""
        return self.W_enc.shape[0]

    @property
    def d_sae(self) -> int:
        """How many latents it has."""
        return self.W_enc.shape[1]

    @property
    def d_out(self) -> int:
        """Width of what it reconstructs."""
        return self.W_dec.shape[1]

    def to(self, device: torch.device | str) -> SaeWeights:
        """The same SAE on another device."""
        moved: dict[str, Any] = {name: t.to(device) for name, t in self._tensors().items()}
        return replace(self, **moved)

    @torch.no_grad()
    def encode(self, x: Tensor) -> SparseCode:
        """The code of activations x, float32 (n, d_in) in the model's own units.

        A row's code depends on nothing but the row and, in the last bit, on its place in the batch.
        """
        select = ACTIVATIONS[self.activation]
        n, rows = len(x), ROWS if x.device.type == "cpu" else max(len(x), 1)
        begins = range(0, max(n, 1), rows)
        found: list[Selected] = [_NOTHING] * len(begins)

        def encode_rows(i: int, begin: int) -> None:
            normal, _ = NORMALIZATIONS[self.normalize](x[begin : begin + rows])
            found[i] = select(self, torch.sub(normal * self.input_scale, self.pre_bias))

        jobs = [partial(encode_rows, i, begin) for i, begin in enumerate(begins)]
        if len(jobs) > 1:
            run_each(jobs)
        else:
            for job in jobs:
                job()
        counts, index, value = (torch.cat(parts) for parts in zip(*found, strict=True))
        offset = F.pad(counts.cumsum(0, dtype=torch.int32), (1, 0))
        return SparseCode(offset, index, value)

    @torch.no_grad()
    def decode(self, code: SparseCode, x: Tensor) -> Tensor:
        """The reconstruction float32 (n, d_out) of a code, in the model's own units.

        x: what was encoded; its length, mean or a skip connection may be a part of the result.
        """
        decoded = F.embedding_bag(
            code.index,
            self.W_dec,
            code.offset,
            per_sample_weights=code.value,
            mode="sum",
            include_last_offset=True,
        )
        decoded.add_(self.b_dec)
        normal, denormalize = NORMALIZATIONS[self.normalize](x)
        if self.W_skip is not None:
            decoded.addmm_(normal, self.W_skip, alpha=self.input_scale)
        return denormalize(decoded.div_(self.output_scale))

    def save(self, path: Path) -> None:
        """Write one safetensors file, whole or not at all; BadInput where it cannot be written."""
        settings = json.dumps(self._settings())
        write_tensors(path, self._tensors(), {"sae": settings})

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> SaeWeights:
        """Read what `save` wrote; BadInput if the file is missing or something else."""
        tensors, metadata = read_tensors(path, device)
        try:
            settings: dict[str, Any] = json.loads(metadata["sae"])
            if settings["activation"] not in ACTIVATIONS:
                raise BadInput(
                    f"{path} holds an SAE with the activation {settings['activation']!r}, which "
                    f"this version does not know; it knows {', '.join(ACTIVATIONS)}."
                )
            values: dict[str, Any] = settings | tensors
            return cls(**values)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise BadInput(f"{path} is not an SAE written by atlas; make it again.") from error

    def sha256(self) -> str:
        """Hash of settings and weights, the same on every device."""
        digest = hashlib.sha256(json.dumps(self._settings(), sort_keys=True).encode())
        for name, tensor in sorted(self._tensors().items()):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _tensors(self) -> dict[str, Tensor]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def _settings(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if not isinstance(value, Tensor)}


Selected = tuple[Tensor, Tensor, Tensor]
"""Of some rows: int32 (n,) number of entries in each, and their int32 index and float32 value."""

_NOTHING: Selected = (
    torch.empty(0, dtype=torch.int32),
    torch.empty(0, dtype=torch.int32),
    torch.empty(0),
)


def _pre(sae: SaeWeights, h: Tensor) -> Tensor:
    return torch.addmm(sae.b_enc, h, sae.W_enc)


def _above(pre: Tensor, least: Tensor | float) -> Selected:
    """Entries of pre (n, d_sae) that are above `least`."""
    active = pre > least
    index = active.nonzero()[:, 1].int()
    return active.sum(1, dtype=torch.int32), index, pre[active]


def _relu(sae: SaeWeights, h: Tensor) -> Selected:
    return _above(_pre(sae, h), 0.0)


def _jumprelu(sae: SaeWeights, h: Tensor) -> Selected:
    assert sae.threshold is not None
    return _above(_pre(sae, h), sae.threshold.clamp_min(0))


def _full(value: Tensor, index: Tensor) -> Selected:
    n, k = value.shape
    counts = torch.full((n,), k, dtype=torch.int32, device=value.device)
    return counts, index.reshape(-1), value.reshape(-1)


def _topk(sae: SaeWeights, h: Tensor) -> Selected:
    assert sae.k is not None
    return _full(*k_largest(_pre(sae, h), sae.k))


def _switch(sae: SaeWeights, h: Tensor) -> Selected:
    """The router's first choice among the experts, times its probability (Mudide et al. 2024)."""
    assert sae.k is not None
    assert sae.W_router is not None
    assert sae.b_router is not None
    chance, expert = torch.addmm(sae.b_router, h, sae.W_router).softmax(1).max(1)
    size = sae.d_sae // sae.W_router.shape[1]
    value = h.new_empty((len(h), sae.k))
    index = torch.empty((len(h), sae.k), dtype=torch.int32, device=h.device)
    for e in sorted(set(expert.tolist())):
        rows, latents = (expert == e).nonzero()[:, 0], slice(e * size, (e + 1) * size)
        pre = torch.addmm(sae.b_enc[latents], h[rows], sae.W_enc[:, latents])
        value[rows], found = k_largest(pre, sae.k)
        index[rows] = found + e * size
    return _full(value * chance[:, None], index)


def _groupmax(sae: SaeWeights, h: Tensor) -> Selected:
    """The largest of each of k groups of latents that lie side by side (eai-sparsify 1.3)."""
    assert sae.k is not None
    value, place = _pre(sae, h).reshape(len(h), sae.k, -1).max(2)
    first = torch.arange(0, sae.d_sae, sae.d_sae // sae.k, device=h.device)
    return _full(value.relu_(), (place + first).int())


def _matching_pursuit(sae: SaeWeights, h: Tensor) -> Selected:
    """Greedy pursuit with a tied encoder (Costa et al. 2025), at most k steps.

    Each step takes the latent that fits best what is left and takes its part away. A row is done
    when less than `threshold` is left, or a step chose no latent that was not active before.
    """
    assert sae.k is not None
    assert sae.threshold is not None
    left, acts = h.clone(), h.new_zeros((len(h), sae.d_sae))
    done = torch.zeros(len(h), dtype=torch.bool, device=h.device)
    for _ in range(sae.k):
        value, index = (left @ sae.W_enc).max(1)
        value = value.relu_().masked_fill_(done, 0)
        before = acts.gather(1, index[:, None])[:, 0]
        acts.scatter_add_(1, index[:, None], value[:, None])
        left.addcmul_(value[:, None], sae.W_dec[index], value=-1)
        done |= (value == 0) | (before > 0) | (left.norm(dim=1) < sae.threshold[0])
        if done.all():
            break
    return _above(acts, 0.0)


ACTIVATIONS: dict[str, Callable[[SaeWeights, Tensor], Selected]] = {
    "relu": _relu,
    "jumprelu": _jumprelu,
    "topk": _topk,
    "groupmax": _groupmax,
    "switch": _switch,
    "matching_pursuit": _matching_pursuit,
}
"""How h (n, d_in) becomes a code."""

_EPS = 1e-5

Normalized = tuple[Tensor, Callable[[Tensor], Tensor]]
"""Normalised rows, and the way back for reconstructions of them."""


def _layer_norm(x: Tensor) -> Normalized:
    mean, std = x.mean(1, keepdim=True), x.std(1, keepdim=True)  # of d - 1 degrees of freedom
    return (x - mean) / (std + _EPS), lambda y: y * std + mean


def _constant_norm(x: Tensor) -> Normalized:
    factor = math.sqrt(x.shape[1]) / x.norm(dim=1, keepdim=True)
    return x * factor, lambda y: y / factor


NORMALIZATIONS: dict[str, Callable[[Tensor], Normalized]] = {
    "none": lambda x: (x, lambda y: y),
    "layer_norm": _layer_norm,
    "constant_norm": _constant_norm,
}
"""What is done to each input (n, d_in) first: nothing; mean 0 and variance 1; a length of √d."""


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file so that a reader finds the old one or the new one, never a part."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A file cannot say that two tensors share memory, as pre_bias and b_dec of an import may.
        own = {
            name: tensor.clone(memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
        save_file(own, part, metadata)
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise BadInput(f"{path} cannot be written ({error}); make room there.") from error


def read_tensors(
    path: Path, device: torch.device | str = "cpu"
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; BadInput if it cannot be read."""
    try:
        with safe_open(path, framework="pt", device=str(device)) as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            return tensors, stored.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path} cannot be read ({error}); make it again.") from error
