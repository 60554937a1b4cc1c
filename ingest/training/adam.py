"""Adam on a few tensors with given gradients, and a state that is nothing but tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam


class Adam:
    """Adam without weight decay (Kingma & Ba 2015), torch's fused kernel, in place."""

    def __init__(self, *parameters: Tensor, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        self._parameters = list(parameters)
        self._betas = betas
        self._first = [torch.zeros_like(p) for p in parameters]
        self._second = [torch.zeros_like(p) for p in parameters]
        self._steps = [torch.zeros((), device=p.device) for p in parameters]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], rate: float) -> None:
        """One step with one gradient for each parameter, at the learning rate `rate`."""
        adam(
            self._parameters,
            list(gradients),
            self._first,
            self._second,
            [],
            self._steps,
            fused=True,
            amsgrad=False,
            beta1=self._betas[0],
            beta2=self._betas[1],
            lr=rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def state(self, name: str) -> dict[str, Tensor]:
        """The moments and step counts, not copied; keys begin with `name`."""
        groups = {"first": self._first, "second": self._second, "steps": self._steps}
        return {f"{name}.{g}.{i}": t for g, group in groups.items() for i, t in enumerate(group)}
