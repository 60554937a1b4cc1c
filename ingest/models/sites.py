"""Where a dictionary reads in a language model, and where what it reconstructs belongs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from atlas.errors import BadInput
from atlas.names import HOOKS
from atlas.sae import SaeWeights


@dataclass(frozen=True, order=True)
class HookPoint:
    """A place in a model where an SAE reads; prints as in SAE names ('3-resid_post')."""

    layer: int
    hook: str
    model: str = ""
    """Where an SAE reads several models, the name of this one; empty for the one it is named after,
    whose points print without it."""

    def __post_init__(self) -> None:
        if self.hook not in HOOKS:
            raise BadInput(f"there is no hook {self.hook!r}; use one of {', '.join(HOOKS)}.")

    def __str__(self) -> str:
        return f"{self.model}/{self.layer}-{self.hook}".removeprefix("/")


@dataclass(frozen=True)
class Sites:
    """The hook points of a dictionary.

    An SAE has one, which is input and output; a transcoder reads one and writes another; a
    crosscoder reads and writes several, whose activations lie side by side in one vector.
    """

    inputs: tuple[HookPoint, ...]
    outputs: tuple[HookPoint, ...]

    @classmethod
    def at(cls, point: HookPoint) -> Sites:
        """Those of an SAE."""
        return cls((point,), (point,))

    @property
    def same(self) -> bool:
        """Whether the dictionary reconstructs what it reads."""
        return self.inputs == self.outputs

    @property
    def points(self) -> tuple[HookPoint, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys(self.inputs + self.outputs))

    def gather(
        self, activations: Mapping[HookPoint, Tensor], rows: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Give x (n, d_in) and y (n, d_out) of activations (m, d) per point; rows: int64 (n,)."""
        x = _side_by_side(activations, self.inputs, rows)
        return x, x if self.same else _side_by_side(activations, self.outputs, rows)


Placed = tuple[Sites, SaeWeights]
"""A dictionary and where it belongs."""


def all_points(several: Iterable[Sites]) -> tuple[HookPoint, ...]:
    """The points of several dictionaries, each once, in the order in which they are met."""
    return tuple(dict.fromkeys(point for one in several for point in one.points))


def _side_by_side(
    activations: Mapping[HookPoint, Tensor], points: tuple[HookPoint, ...], rows: Tensor | None
) -> Tensor:
    found = [activations[point] for point in points]
    if rows is not None:
        found = [one.index_select(0, rows) for one in found]
    return found[0] if len(found) == 1 else torch.cat(found, dim=1)
