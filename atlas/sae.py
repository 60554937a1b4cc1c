"""A trained sparse autoencoder: its weights in one canonical form, encoding, decoding, files.

Whatever the architecture and wherever it comes from:

    h    = x * input_scale - pre_bias
    pre  = h @ W_enc + b_enc
    acts = activation(pre)                      sparse, never negative
    x̂    = (acts @ W_dec + b_dec) / input_scale
"""

from __future__ import annotations

import contextlib
import hashlib
import json
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
    """Activations of n inputs, of which at most k are not zero in each."""

    index: Tensor
    """int32 (n, k) which latents, in no order."""
    value: Tensor
    """float32 (n, k) how strongly; 0 where fewer than k are active."""


@dataclass(frozen=True)
class SaeWeights:
    """An SAE as the atlas stores it. All tensors are float32 and on one device."""

    architecture: str
    """A key of `ACTIVATIONS`."""
    k: int
    """Most latents active at once."""
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
    threshold: Tensor | None = None
    """(d_sae,) for architectures that have one."""

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
        select = ACTIVATIONS[self.architecture]
        n, rows = len(x), ROWS if x.device.type == "cpu" else max(len(x), 1)
        index = torch.empty((n, self.k), dtype=torch.int32, device=x.device)
        value = torch.empty((n, self.k), device=x.device)

        def encode_rows(begin: int) -> None:
            here = slice(begin, begin + rows)
            h = torch.sub(x[here] * self.input_scale, self.pre_bias)
            value[here], index[here] = select(self, torch.addmm(self.b_enc, h, self.W_enc))

        jobs = [partial(encode_rows, begin) for begin in range(0, n, rows)]
        if len(jobs) > 1:
            run_each(jobs)
        else:
            for job in jobs:
                job()
        return SparseCode(index, value)

    @torch.no_grad()
    def decode(self, code: SparseCode) -> Tensor:
        """The reconstruction float32 (n, d_out) of a code, in the model's own units."""
        sums = F.embedding_bag(code.index, self.W_dec, per_sample_weights=code.value, mode="sum")
        return sums.add_(self.b_dec).div_(self.input_scale)

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
            if settings["architecture"] not in ACTIVATIONS:
                raise BadInput(
                    f"{path} holds an SAE of architecture {settings['architecture']!r}, which this "
                    f"version does not know; it knows {', '.join(ACTIVATIONS)}."
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
        return {"architecture": self.architecture, "k": self.k, "input_scale": self.input_scale}


def _topk(sae: SaeWeights, pre: Tensor) -> tuple[Tensor, Tensor]:
    return k_largest(pre, sae.k)


ACTIVATIONS: dict[str, Callable[[SaeWeights, Tensor], tuple[Tensor, Tensor]]] = {"topk": _topk}
"""Per architecture, how pre-activations (n, d_sae) become (value, index), each (n, k)."""


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file so that a reader finds the old one or the new one, never a part."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, metadata)
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
