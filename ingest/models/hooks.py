"""Reads and replaces activations of a PyTorch module by forward hooks.

A `Site` is one side of one module; a `Tap` is an activation that one site or several make up.
`capture` runs a forward pass until every wanted tap has been read and no further; `spliced`
replaces what flows through a tap. Nothing here knows what a language model is:
`atlas.ingest.models.blocks` and `atlas.ingest.models.sublayers` say which module is which.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
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


@dataclass(frozen=True, eq=False)
class Tap:
    """An activation: (the sum of what passes the sites − bias) / gain.

    Sites of a sum are in the order in which a pass comes by. Of a gain, float32 (width,), that is
    zero, nothing can be told: the activation reads 0 there, and replacing it changes nothing.
    """

    sites: tuple[Site, ...]
    width: int
    gain: Tensor | None = None
    bias: Tensor | None = None

    def of(self, passed: Sequence[Tensor]) -> Tensor:
        """The activation, float32 (n, width), of what passed each site."""
        total = rows(passed[0]).float()
        for one in passed[1:]:
            total = total + rows(one).float()
        if self.gain is None:
            return total
        apart = total if self.bias is None else total - self.bias
        return torch.where(self.gain == 0, 0, apart / self.gain)


def rows(activation: Tensor) -> Tensor:
    """(B, T, width), or (B·T, width) as inside OPT's blocks, as (B·T, width)."""
    return activation.reshape(-1, activation.shape[-1])


class _Stop(Exception):
    """Ends a forward pass whose remaining layers nobody asked for."""


def attach(site: Site, function: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
    """Call `function` with the activation at `site` on every forward pass.

    A module that takes or returns several things is taken by the first, as in every
    transformers block; one that takes or returns no tensor there is passed over. A tensor that
    `function` returns goes on in the activation's place.
    """
    if site.side == "input":

        def before(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            given = args[0] if args else kwargs.get("hidden_states")
            new = function(given) if isinstance(given, Tensor) else None
            if new is None:
                return None
            return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

        return site.module.register_forward_pre_hook(before, with_kwargs=True)

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, Tensor):
            return function(output)
        if not isinstance(output, tuple | list) or not output or not isinstance(output[0], Tensor):
            return None
        new = function(output[0])
        return None if new is None else type(output)((new, *output[1:]))

    return site.module.register_forward_hook(after)


def capture(
    forward: Callable[[], object], taps: Mapping[Key, Tap], keep: Tensor
) -> dict[Key, Tensor]:
    """Run `forward` until every tap has been read; give each activation's kept rows.

    keep: int64 (n_keep,) of the B·T rows of every activation. The result is float32 (n_keep,
    width) and owns its memory: some models go on adding into the tensor they handed over.
    The pass ends inside the hook that reads the last site, so later layers and the head are
    never computed. Gradients are off; the result may take part in a graph of the caller's
    (`no_grad` rather than `inference_mode`, whose tensors may not).

    Raises BadInput if the pass ends without having come by every site.
    """
    wanted = [(key, i) for key, tap in taps.items() for i in range(len(tap.sites))]
    found: dict[tuple[Key, int], Tensor] = {}

    def reader(place: tuple[Key, int]) -> Callable[[Tensor], None]:
        def function(activation: Tensor) -> None:
            found[place] = rows(activation).index_select(0, keep)
            if len(found) == len(wanted):
                raise _Stop

        return function

    with ExitStack() as stack:
        for key, i in wanted:
            stack.callback(attach(taps[key].sites[i], reader((key, i))).remove)
        stack.enter_context(torch.no_grad())
        with suppress(_Stop):
            forward()
        missing = ", ".join(dict.fromkeys(str(key) for key, i in wanted if (key, i) not in found))
        if missing:
            raise BadInput(
                f"the model's forward pass never came by {missing}; name its blocks with "
                "--block-path."
            )
        return {
            key: tap.of([found[key, i] for i in range(len(tap.sites))]) for key, tap in taps.items()
        }


@contextmanager
def spliced(taps: Mapping[Tap, Callable[[Tensor], Tensor]], keep: Tensor) -> Iterator[None]:
    """Within the context, the kept rows of each activation are replaced by a function of them.

    keep: as for `capture`. The function gets float32 (n_keep, width) and returns the same. What
    it leaves as it was stays so to the bit; where several sites make up the activation, the last
    of them takes the whole difference.
    """

    def replacement(
        tap: Tap, function: Callable[[Tensor], Tensor], earlier: list[Tensor]
    ) -> Callable[[Tensor], Tensor]:
        def replace(activation: Tensor) -> Tensor:
            last = rows(activation).index_select(0, keep)
            if len(tap.sites) == 1 and tap.gain is None:
                new = function(last.float())
            else:
                old = tap.of([*earlier, last])
                change = function(old) - old
                new = last.float() + (change if tap.gain is None else change * tap.gain)
                earlier.clear()
            new = new.to(activation.dtype)
            return rows(activation).index_copy(0, keep, new).reshape(activation.shape)

        return replace

    def note(earlier: list[Tensor]) -> Callable[[Tensor], None]:
        return lambda activation: earlier.append(rows(activation).index_select(0, keep))

    with ExitStack() as stack:
        for tap, function in taps.items():
            earlier: list[Tensor] = []
            for site in tap.sites[:-1]:
                stack.callback(attach(site, note(earlier)).remove)
            stack.callback(attach(tap.sites[-1], replacement(tap, function, earlier)).remove)
        yield


@contextmanager
def repeated(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Within the context, blocks in a row compute once; after that the last one's output is there.

    In every later pass each of them gives what the last one gave in the first, so that the last
    one's successor goes on as it did then. Hooks run all the same, on that output.
    """
    given: list[Any] = []

    def stand_in(block: nn.Module) -> Callable[..., Any]:
        forward = block.forward

        def call(*args: Any, **kwargs: Any) -> Any:
            if given:
                return _copied(given[0])
            output = forward(*args, **kwargs)
            if block is blocks[-1]:
                given.append(_copied(output))
            return output

        return call

    with ExitStack() as stack:
        for block in blocks:
            block.forward = stand_in(block)
            stack.callback(delattr, block, "forward")
        yield


def _copied(output: Any) -> Any:
    """The same with tensors of its own: some models go on adding into what a block gave them."""
    if isinstance(output, Tensor):
        return output.clone()
    if isinstance(output, tuple | list):
        return type(output)(map(_copied, output))
    return output
