"""Runs a model on many batches, on a CPU with one forward pass per core at a time.

A pass of a small model is hundreds of operations that are too short to be shared between cores
without losing much of the gain at their barriers, and nearly all of it where other programs run.
Passes side by side, one thread each, have no barriers, and their results do not depend on how many
there are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Generic, TypeVar

from torch import Tensor

from atlas.ingest.models.joint import Ensemble, members_of
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint
from atlas.ingest.text.contexts import Batch
from atlas.workers import Stage, n_workers, run_here, run_lanes

M = TypeVar("M", bound=LanguageModel | Ensemble)


class Forwards(Generic[M]):
    """A model, or several beside one another, ready to run several batches at a time."""

    def __init__(self, model: M, points: Sequence[HookPoint] = ()) -> None:
        self._points = points
        self._on_cpu = model.device.type == "cpu"
        self._models = [model]
        if self._on_cpu:
            self._models += [_twin(model) for _ in range(n_workers() - 1)]

    def run(
        self,
        batches: Sequence[Batch],
        use: Callable[[int, list[Tensor]], None],
        done: Callable[[int], None] = lambda i: None,
    ) -> None:
        """Call `use(i, activations at each point)` for every batch i, in any order and thread.

        The activations are those of `LanguageModel.run`. After that `done(i)` is called, by the
        thread that called `run`.
        """

        def read(model: M, i: int) -> None:
            use(i, model.run(batches[i], self._points))

        self.each(len(batches), read, done)

    def each(self, n: int, read: Callable[[M, int], None], done: Callable[[int], None]) -> None:
        """Call `read(model, i)` for i from 0 to n - 1, in any order and thread; `done` as in `run`.

        The models share their weights, but not their hooks.
        """
        numbers = iter(range(n))
        lanes = [_lane(partial(read, model), numbers, done) for model in self._models]
        if self._on_cpu:
            run_lanes(lanes)
        else:
            run_here(lanes[0])


def _lane(
    read: Callable[[int], None], numbers: Iterator[int], done: Callable[[int], None]
) -> Iterator[Stage]:
    # Lanes share one iterator: each takes the next batch when it is free.
    for i in numbers:
        yield [partial(read, i)]
        done(i)


def _twin(model: M) -> M:
    """A copy with modules, and so hooks, of its own, but the very same weights."""
    shared: list[object] = []
    for one in members_of(model):
        shared += [*one.model.parameters(), *one.model.buffers(), one.tokenizer]
    return copy.deepcopy(model, {id(one): one for one in shared})
