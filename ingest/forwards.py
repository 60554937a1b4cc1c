"""Reads activations of many batches, on a CPU with one forward pass per core at a time.

A pass of a small model is hundreds of operations that are too short to be shared between cores
without losing much of the gain at their barriers, and nearly all of it where other programs run.
Passes side by side, one thread each, have no barriers, and their results do not depend on how many
there are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from torch import Tensor

from atlas.ingest.contexts import Batch
from atlas.ingest.models import HookPoint, LanguageModel
from atlas.workers import Stage, n_workers, run_here, run_lanes


class Forwards:
    """A model, ready to run several batches at a time."""

    def __init__(self, model: LanguageModel, points: Sequence[HookPoint]) -> None:
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
        numbered = iter(enumerate(batches))
        lanes = [self._lane(model, numbered, use, done) for model in self._models]
        if self._on_cpu:
            run_lanes(lanes)
        else:
            run_here(lanes[0])

    def _lane(
        self,
        model: LanguageModel,
        numbered: Iterator[tuple[int, Batch]],
        use: Callable[[int, list[Tensor]], None],
        done: Callable[[int], None],
    ) -> Iterator[Stage]:
        # Lanes share one iterator: each takes the next batch when it is free.
        for i, batch in numbered:
            yield [partial(self._read, model, i, batch, use)]
            done(i)

    def _read(
        self,
        model: LanguageModel,
        i: int,
        batch: Batch,
        use: Callable[[int, list[Tensor]], None],
    ) -> None:
        use(i, model.run(batch, self._points))


def _twin(model: LanguageModel) -> LanguageModel:
    """A copy with modules, and so hooks, of its own, but the very same weights."""
    shared = [*model.model.parameters(), *model.model.buffers(), model.tokenizer]
    return copy.deepcopy(model, {id(one): one for one in shared})
