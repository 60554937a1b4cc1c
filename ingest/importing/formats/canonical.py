"""What several importers share: probing PyTorch files, and folding into the form of `atlas.sae`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atlas.errors import BadInput
from atlas.ingest.importing.formats.found import Source, Tensors, read_pickle

SIGNED_TOPK = (
    "The k largest pre-activations are kept whatever their sign; a negative one among them, which "
    "only an input with fewer than k positive ones has, is read as no activation."
)
"""A note on TopK encoders without a ReLU."""


def probe(source: Source, *patterns: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """PyTorch files with named values, and these; tensors are mapped, not read.

    A file that cannot be loaded is passed over among others (optimisers leave such files beside
    their SAEs), and BadInput if it is the only one that was given.
    """
    for path in source.matching(*patterns):
        try:
            values = read_pickle(path)
        except BadInput:
            if len(source.files) == 1:
                raise
            continue
        if isinstance(values, dict) and all(isinstance(name, str) for name in values):
            yield path, values


def plain(value: Any) -> Any:
    """A configuration as strict JSON: what JSON does not have (NaN, dates) as its text."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def linear_pair(
    tensors: Tensors, encoder: str = "encoder", decoder: str = "decoder"
) -> tuple[Tensor, Tensor, Tensor]:
    """W_enc (d_in, d_sae), b_enc (d_sae,), W_dec (d_sae, d_out) of two `torch.nn.Linear`.

    Theirs are stored as (d_sae, d_in) and (d_out, d_sae), which a square dictionary does not show.
    """
    d_sae, d_in = tensors.shape(f"{encoder}.weight", 2)
    d_out, _ = tensors.shape(f"{decoder}.weight", 2)
    return (
        tensors.take(f"{encoder}.weight", d_sae, d_in).T.contiguous(),
        tensors.take(f"{encoder}.bias", d_sae),
        tensors.take(f"{decoder}.weight", d_out, d_sae).T.contiguous(),
    )


def decoder_norms(W_dec: Tensor) -> Tensor:
    """‖W_dec‖ (d_sae,), 1 for a latent that decodes to nothing."""
    norm: Tensor = W_dec.norm(dim=1)
    return torch.where(norm > 0, norm, 1.0)


def unit_decoder(W_enc: Tensor, b_enc: Tensor, W_dec: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same dictionary with decoder rows of length 1: activations grow by what rows lose."""
    norm = decoder_norms(W_dec)
    return W_enc * norm, b_enc * norm, W_dec / norm[:, None]


def checked_k(k: Any, d_sae: int, path: Path) -> int:
    """`k` as a number of latents; BadInput unless it is a whole number from 1 to d_sae."""
    whole = isinstance(k, int) or (isinstance(k, float) and k.is_integer())
    if isinstance(k, bool) or not whole or not 1 <= int(k) <= d_sae:
        raise BadInput(
            f"{path} keeps the k = {k!r} largest activations of {d_sae:,}, which cannot be; the "
            "file or its configuration is damaged: get it again."
        )
    return int(k)


def checked_threshold(threshold: Tensor, path: Path) -> Tensor:
    """A JumpReLU's threshold; BadInput where one is below 0, for activations are never negative."""
    if (threshold < 0).any():
        raise BadInput(
            f"{path} has thresholds below 0, so that its activations can be negative, which the "
            "atlas does not hold; it cannot be imported."
        )
    return threshold


def constant_threshold(value: float, d_sae: int) -> Tensor:
    """One threshold for all latents: float32 (d_sae,)."""
    return torch.full((d_sae,), float(value))
