"""JumpReLU SAEs (Rajamanoharan et al. 2024b, arXiv 2407.14435): a threshold for each latent.

    pre       z + b_enc
    acts      pre * 1[pre > θ], θ = exp(log_threshold)
    penalty   Σ 1[pre > θ], which is L0
    post-step decoder rows to unit length
    stored as 'jumprelu'

A threshold has no gradient; a kernel of width ε around it gives one (eq. 11 and 12): where
|pre - θ| < ε / 2, -θ / ε for acts and -1 / ε for L0, by θ. The paper's ε is .001 for activations of
norm 1 and millions of tokens; the norm is √d here, and fewer tokens need a wider kernel.

With `tanh` the penalty is Σ tanh(tanh * acts), and with `to_pre` the kernel's gradient reaches pre
and so the encoder as well (Conerly et al. 2025, Circuits Updates of January 2025).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from atlas.ingest.training.architectures import dense
from atlas.ingest.training.architectures.dense import Dense, Stored
from atlas.ingest.training.architectures.dense_step import Activated, Latents
from atlas.ingest.training.architectures.settings import Setting
from atlas.ingest.training.architectures.sparsity import MOVING
from atlas.ingest.training.trainee import Moment


class StraightThrough(torch.autograd.Function):
    """JumpReLU and L0 of entries, with the kernel's gradients."""

    @staticmethod
    def forward(
        ctx: Any, pre: Tensor, threshold: Tensor, width: float, to_pre: bool
    ) -> tuple[Tensor, Tensor]:
        """Pre and threshold (m,) → acts (m,) and 1 or 0 (m,) where active or not."""
        ctx.save_for_backward(pre, threshold)
        ctx.width, ctx.to_pre = width, to_pre
        active = (pre > threshold).to(pre.dtype)
        return pre * active, active

    @staticmethod
    def backward(ctx: Any, by_acts: Tensor, by_active: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """By pre and by the threshold."""
        pre, threshold = ctx.saved_tensors
        kernel = ((pre - threshold).abs() < ctx.width / 2).to(pre.dtype) / ctx.width
        jump = kernel * (by_acts * threshold + by_active)
        by_pre = by_acts * (pre > threshold)
        return by_pre + jump if ctx.to_pre else by_pre, -jump, None, None


class JumpReLU(Dense):
    """In training."""

    SETTINGS: ClassVar = {
        **dense.SETTINGS,
        "bandwidth": Setting(0.3, "width of the thresholds' kernel, activations having norm √d"),
        "tanh": Setting(0, "scale c of a penalty tanh(c * activation) in place of L0; 0: L0"),
        "to_pre": Setting(0, "1: the kernel's gradient reaches the encoder as well"),
    }
    OWN = ("b_enc", "log_threshold")
    STEERING = MOVING

    def first(self, level: Tensor) -> dict[str, Tensor]:
        """Active above the level."""
        return {"b_enc": level * 0, "log_threshold": level.clamp_min(1e-3).log()}

    def first_coefficient(self) -> float:
        """What a latent saves of the square error, if it is worth being active: d_out / k."""
        return 0.03 * self.shape.d_out / self.config.k

    def least(self, p: Latents) -> Tensor:
        """Above it an entry is active or within the kernel."""
        return p["log_threshold"].exp() - self.settings["bandwidth"] / 2 - p["b_enc"]

    def activate(self, z: Tensor, at: Tensor, p: Latents, moment: Moment) -> Activated:
        """JumpReLU."""
        width, to_pre = self.settings["bandwidth"], bool(self.settings["to_pre"])
        threshold = p["log_threshold"].exp()[at]
        jump = StraightThrough.apply
        acts, active = jump(z + p["b_enc"][at], threshold, width, to_pre)  # type: ignore[no-untyped-call]
        scale = self.settings["tanh"]
        return Activated(acts, penalty=((scale * acts).tanh() if scale else active).sum())

    def stored(self) -> Stored:
        """As it is."""
        threshold = self.latents["log_threshold"].exp()
        return Stored("jumprelu", self.latents["b_enc"], threshold=threshold)
