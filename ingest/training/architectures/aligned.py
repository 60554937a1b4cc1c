"""Feature-aligned training (Marks et al. 2024, arXiv 2411.01220): dictionaries that seek to agree.

Several dictionaries with different seeds learn from the same tokens, and to their losses is added

    coefficient * (1 - mean over ordered pairs (a, b) and latents i of a of max_j cos(a_i, b_j))

of their decoder rows: features that several of them find are more often features of the data. The
penalty depends on nothing but decoders, so that it works with any architecture that takes a
gradient for its decoder. Which j is nearest to i is looked up every few steps, since it costs as
much as the steps of a batch; the cosine's gradient is taken in every step.

In a training, the members of a group are one lane: `begin`, `step`, `state` and `restore` are the
group's, `report` and `weights` each member's, with the group's own `report` beside the former.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import permutations, zip_longest
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from atlas.ingest.training.trainee import ByOutput, Moment, Trainee
from atlas.workers import Stage

_RENEW = 8
"""Steps after which nearest rows are looked up again."""

_ROWS = 2048
"""Rows that are compared at a time: cosines of all of them would not fit into memory."""


class Alignable(Trainee, Protocol):
    """A dictionary in training whose decoder takes a gradient from outside."""

    W_dec: Tensor
    """(d_sae, d_out)"""
    by_W_dec: Tensor | None  # noqa: N815
    """A gradient (d_sae, d_out) that the next step adds to its own, in units of the mean square
    error over tokens and dimensions; None after each step."""


class Aligned:
    """Dictionaries of one width of output in training together."""

    def __init__(self, members: Sequence[Alignable], coefficient: float) -> None:
        """members: two or more, at the same hook points."""
        self.members = tuple(members)
        self._coefficient = coefficient
        self._pairs = tuple(permutations(range(len(members)), 2))
        device = members[0].W_dec.device
        self._steps = torch.zeros((), dtype=torch.int64)
        self._nearest = {
            (a, b): torch.zeros(len(members[a].W_dec), dtype=torch.int64, device=device)
            for a, b in self._pairs
        }
        self._agreement = [float("nan")] * len(members)

    def begin(self, x: Tensor, y: Tensor) -> None:
        """Begin every member."""
        for member in self.members:
            member.begin(x, y)

    def step(
        self, x: Tensor, y: Tensor, moment: Moment, by_output: ByOutput | None = None
    ) -> Iterator[Stage]:
        """One step of every member, as stages of jobs; by_output is asked by each of them."""
        if self._steps.item() % _RENEW == 0:
            yield [partial(self._look_up, a, b) for a, b in self._pairs]
        self._steps += 1
        yield [partial(self._attract, a) for a in range(len(self.members))]
        steps = (member.step(x, y, moment, by_output) for member in self.members)
        for stages in zip_longest(*steps, fillvalue=[]):
            yield [job for stage in stages for job in stage]

    @torch.no_grad()
    def _look_up(self, a: int, b: int) -> None:
        """Find the row of b that is nearest to each row of a."""
        others = F.normalize(self.members[b].W_dec, dim=1)
        rows = torch.split(F.normalize(self.members[a].W_dec, dim=1), _ROWS)
        found = [(part @ others.T).argmax(1) for part in rows]
        torch.cat(found, out=self._nearest[a, b])

    @torch.no_grad()
    def _attract(self, a: int) -> None:
        """Give a member the penalty's gradient by its decoder."""
        own = self.members[a].W_dec
        norm = torch.linalg.vector_norm(own, dim=1, keepdim=True).clamp_min(1e-12)
        unit, pull, agreement = own / norm, torch.zeros_like(own), 0.0
        others = [b for b in range(len(self.members)) if b != a]
        for b in others:
            theirs = F.normalize(self.members[b].W_dec, dim=1)
            near = theirs[self._nearest[a, b]]
            agreement += (unit * near).sum(1).mean().item() / len(others)
            pull.add_(near, alpha=1 / len(unit))
            pull.index_add_(0, self._nearest[b, a], theirs, alpha=1 / len(theirs))
        # The cosine's gradient: what is not along the row already.
        pull.addcmul_(unit, (pull * unit).sum(1, keepdim=True), value=-1).div_(norm)
        self.members[a].by_W_dec = pull.mul_(-self._coefficient / len(self._pairs))
        self._agreement[a] = agreement

    def report(self) -> dict[str, float]:
        """'agreement': the mean of the greatest cosines, 0 … 1, as of the last step."""
        return {"agreement": sum(self._agreement) / len(self._agreement)}

    def state(self) -> dict[str, Tensor]:
        """Everything that later steps depend on, every member's included."""
        own = {f"nearest.{a}.{b}": found for (a, b), found in self._nearest.items()}
        for i, member in enumerate(self.members):
            own |= {f"{i}.{name}": tensor for name, tensor in member.state().items()}
        return own | {"steps": self._steps}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go to a state that `state` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
