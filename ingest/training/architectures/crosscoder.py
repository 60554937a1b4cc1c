"""Crosscoders (Lindsey et al. 2024, "Sparse Crosscoders for Cross-Layer Features"): one dictionary
for the activations of several hook points, side by side in one vector.

Chosen as in BatchTopK crosscoders (Minder et al. 2025, arXiv 2504.02922).

    encode      pre = h @ W_enc + b_enc; of all of a batch the k·n largest of pre * Σ_s ‖W_dec_s‖,
                where W_dec_s is the part of a latent's decoder row for hook point s
    decode      acts @ W_dec + b_dec
    loss        mean square error of all hook points, each in units of its own, and AuxK
    post-step   Σ_s ‖W_dec_s‖ to 1; the threshold of inference
    stored as   'jumprelu' with one threshold for all latents, the units folded into the weights

Scaling a latent's encoder up and its decoder down changes neither the choice nor the loss, so that
the sum of the norms is kept at 1, and the choice is of the pre-activations themselves.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from atlas.ingest.training.architectures.batchtopk import BatchTopK
from atlas.sae import SaeWeights


class Crosscoder(BatchTopK):
    """In training."""

    def lengths(self, W_dec: Tensor) -> Tensor:
        """The sum of the norms of the parts, which is the length in the units of each."""
        parts = torch.split(W_dec, list(self.shape.outputs), 1)
        return torch.stack([part.norm(dim=1, keepdim=True) for part in parts]).sum(0)

    def along_lengths(self, W_dec: Tensor) -> Tensor:
        """The unit vectors of the parts."""
        parts = torch.split(W_dec, list(self.shape.outputs), 1)
        return torch.cat([torch.nn.functional.normalize(part, dim=1) for part in parts], 1)

    def weights(self) -> SaeWeights:
        """With scales of 1, as each hook point has its own."""
        found, conventions = super().weights(), self.conventions
        scale = conventions.factor(conventions.input_scale, found.W_enc)
        return replace(
            found,
            W_enc=found.W_enc * scale.view(-1, 1),
            W_dec=found.W_dec / scale,
            b_dec=found.b_dec / scale,
            pre_bias=found.pre_bias / scale,
            input_scale=1.0,
            output_scale=1.0,
        )
