"""Transcoders: TopK dictionaries that read one hook point and reconstruct another.

Without skip connection: Dunefsky et al. 2024, arXiv 2406.11944; with one: Paulo et al. 2025,
arXiv 2501.18823. Both use what an MLP reads and writes.

    encode      k largest of h @ W_enc + b_enc, and of these what is above 0
    decode      acts @ W_dec + b_dec, and h @ W_skip with a skip connection
    loss        mean square error against the other activation, in units of its own, and AuxK
    post-step   decoder rows to unit length
    stored as   'topk', with W_skip

W_skip begins at 0, so that it learns what the latents leave over.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from atlas.ingest.training.architectures.batch import Batch
from atlas.ingest.training.architectures.topk import TopK
from atlas.ingest.training.trainee import Shape, TrainConfig


class SkipTranscoder(TopK):
    """In training. A transcoder without skip connection is a `TopK` with another target."""

    def __init__(
        self, shape: Shape, config: TrainConfig, generator: torch.Generator, device: torch.device
    ) -> None:
        super().__init__(shape, config, generator, device)
        self.shared["W_skip"] = torch.zeros(shape.d_in, shape.d_out, device=device)

    def skip(self, h: Tensor) -> Tensor | None:
        """The linear part."""
        return h @ self.shared["W_skip"]

    def shared_gradients(self, batch: Batch) -> dict[str, Tensor]:
        """That of W_skip too."""
        by_W_skip = batch.h.T @ batch.by_reconstruction()
        return super().shared_gradients(batch) | {"W_skip": by_W_skip}

    def stored(self) -> dict[str, Any]:
        """As it is read then, the skip connection is not centred: its share of b_dec is."""
        W_skip, conventions = self.shared["W_skip"].clone(), self.conventions
        b_dec = self.shared["b_dec"] + conventions.centre - conventions.pre_bias @ W_skip
        return super().stored() | {"W_skip": W_skip, "b_dec": b_dec}
