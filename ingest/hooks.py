"""Reads and replaces activations of a PyTorch module by forward hooks.

A `Site` is one side of one module. `capture` runs a forward pass until every wanted site has
been read and no further; `spliced` replaces what flows through a site. Nothing here knows what a
language model is: `atlas.ingest.blocks` says which module is which.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from atlas.errors import BadInput

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Site:
    """The activation that enters ("input") or leaves ("output") a module."""

    module: nn.Module
    side: Literal["input", "output"]


class _Stop(Exception):
    """Ends a forward pass whose remaining layers nobody asked for."""


def attach(site: Site, function: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
    """Call `function` with the activation at `site` on every forward pass.

    A module that takes or returns several things is taken by the first, as in every
    transformers block; one that returns no tensor there is passed over. A tensor that
    `function` returns goes on in the activation's place.
    """
    if site.side == "input":

        def before(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            if args:
                new = function(args[0])
                return None if new is None else ((new, *args[1:]), kwargs)
            new = function(kwargs["hidden_states"])
            return None if new is None else (args, {**kwargs, "hidden_states": new})

        return site.module.register_forward_pre_hook(before, with_kwargs=True)

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, Tensor):
            return function(output)
        if not isinstance(output, tuple | list) or not isinstance(output[0], Tensor):
            return None
        new = function(output[0])
        return None if new is None else type(output)((new, *output[1:]))

    return site.module.register_forward_hook(after)


def capture(
    forward: Callable[[], object], sites: Mapping[Key, Site], read: Callable[[Tensor], Tensor]
) -> dict[Key, Tensor]:
    """Run `forward` until every site has been read; return read(activation) of each.

    `read` must copy what it keeps: some models go on adding into the tensor they handed over.
    The pass ends inside the hook that reads the last site, so later layers and the head are
    never computed. Gradients are off; the result may take part in a graph of the caller's
    (`no_grad` rather than `inference_mode`, whose tensors may not).

    Raises BadInput if the pass ends without having come by every site.
    """
    found: dict[Key, Tensor] = {}

    def reader(key: Key) -> Callable[[Tensor], None]:
        def function(activation: Tensor) -> None:
            found[key] = read(activation)
            if len(found) == len(sites):
                raise _Stop

        return function

    with ExitStack() as stack:
        for key, site in sites.items():
            stack.callback(attach(site, reader(key)).remove)
        stack.enter_context(torch.no_grad())
        try:
            forward()
        except _Stop:
            return found
    missing = ", ".join(str(key) for key in sites if key not in found)
    raise BadInput(
        f"the model's forward pass never came by {missing}; name its blocks with --block-path."
    )


@contextmanager
def spliced(sites: Mapping[Site, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Within the context, the activation at each site is replaced by its function's result.

    The function gets the activation as the model made it and returns one of the same shape and
    dtype, without writing into what it got.
    """
    with ExitStack() as stack:
        for site, function in sites.items():
            stack.callback(attach(site, function).remove)
        yield
