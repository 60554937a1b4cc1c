"""Turns what several formats have in common into the canonical form of `atlas.sae`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from atlas.errors import BadInput
from atlas.ingest.formats.found import Tensors

SIGNED_TOPK = (
    "The k largest pre-activations are kept whatever their sign; a negative one among them, which "
    "only an input with fewer than k positive ones has, is read as no activation."
)
"""A note on TopK encoders without a ReLU."""


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


def checked_k(k: object, d_sae: int, path: Path) -> int:
    """`k` as a number of latents; BadInput unless it is a whole number from 1 to d_sae."""
    if isinstance(k, bool) or not isinstance(k, int | float) or k != int(k) or not 1 <= k <= d_sae:
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
    return torch.full((d_sae,), value)
