"""What every architecture shares: the scales and centres of what it sees, and its first weights.

    h = x * input_scale - pre_bias       what is encoded
    t = y * output_scale - centre        what is decoded

h and t have a mean norm of the square root of their width, so that learning rates and penalties
mean the same on every model and layer. `SaeWeights` has the same two scales and the pre_bias; the
centre becomes a part of its b_dec.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from atlas.ingest.training.trainee import Shape


class Conventions:
    """Scales and centres, chosen from a sample; a part of the state of a training."""

    def __init__(self, shape: Shape, device: torch.device) -> None:
        self.shape = shape
        self.input_scale = torch.ones(len(shape.inputs), dtype=torch.float64)
        """(n_inputs,) one for each of the activations that lie side by side in x."""
        self.pre_bias = torch.zeros(shape.d_in, device=device)
        """(d_in,) in scaled units."""
        if shape.same:
            self.output_scale, self.centre = self.input_scale, self.pre_bias
        else:
            self.output_scale = torch.ones(len(shape.outputs), dtype=torch.float64)
            self.centre = torch.zeros(shape.d_out, device=device)

    def choose(self, x: Tensor, y: Tensor) -> None:
        """Centre on the geometric medians of x (n, d_in) and y (n, d_out), scale to norms √d."""
        _choose(x, self.shape.inputs, self.input_scale, self.pre_bias)
        if not self.shape.same:
            _choose(y, self.shape.outputs, self.output_scale, self.centre)

    def read(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Give h (n, d_in)."""
        return torch.mul(x, self.factor(self.input_scale, x), out=out).sub_(self.pre_bias)

    def target(self, y: Tensor, out: Tensor | None = None) -> Tensor:
        """Give t (n, d_out)."""
        return torch.mul(y, self.factor(self.output_scale, y), out=out).sub_(self.centre)

    def factor(self, scale: Tensor, like: Tensor) -> Tensor:
        """`input_scale` or `output_scale` as float32, () or (d,), on the device of `like`."""
        if len(scale) == 1:
            return scale[0].float()
        widths = self.shape.inputs if scale is self.input_scale else self.shape.outputs
        return scale.repeat_interleave(torch.tensor(widths)).float().to(like.device)

    def state(self) -> dict[str, Tensor]:
        """All tensors, not copied."""
        chosen = {"input_scale": self.input_scale, "pre_bias": self.pre_bias}
        if not self.shape.same:
            chosen |= {"output_scale": self.output_scale, "centre": self.centre}
        return chosen


def _choose(x: Tensor, widths: tuple[int, ...], scale: Tensor, centre: Tensor) -> None:
    parts = zip(torch.split(x, list(widths), 1), torch.split(centre, list(widths)), strict=True)
    for i, (part, own_centre) in enumerate(parts):
        median = geometric_median(part)
        norm = (part - median).norm(dim=1).mean().item()
        scale[i] = math.sqrt(part.shape[1]) / norm if norm > 0 else 1.0
        own_centre.copy_(median * scale[i].item())


def random_directions(n: int, d: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Unit vectors float32 (n, d), the same on every device."""
    return F.normalize(torch.randn((n, d), generator=generator), dim=1).to(device)


def best_multiple(target: Tensor, decoded: Tensor) -> float:
    """The factor, at least .1, that brings reconstructions (n, d) nearest to what they stand for.

    Latents whose directions overlap add up to more than the input: begin with the best multiple.
    """
    multiple = (target * decoded).sum() / decoded.square().sum().clamp_min(1e-12)
    return max(0.1, multiple.item())


def geometric_median(x: Tensor, iterations: int = 20, n_most: int = 2**15) -> Tensor:
    """The point with the least mean distance to the rows of x (n, d), by Weiszfeld's iteration.

    Unlike the mean it is hardly moved by the few tokens whose norm is a hundred times the others'.
    Of more than `n_most` rows, as many at equal steps are used.
    """
    x = x[:: -(-len(x) // n_most)]
    median = x.mean(0)
    for _ in range(iterations):
        weight = 1 / (x - median).norm(dim=1).clamp_min(1e-6)
        median = weight @ x / weight.sum()
    return median
