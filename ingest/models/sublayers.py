"""Where attention and the MLP of a block read and compute: what happens between the residual sums.

Found by following activations through one short forward pass, since no two families name these
places alike: a module that returns what the block adds, the linear map within it that returns the
same, what enters that map, and the norm that returned what the MLP read. Places are the same
where their activations are the same to the bit, and the modules' names are never looked at.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from atlas.ingest.models.blocks import Parts
from atlas.ingest.models.hooks import Site, Tap, attach

ABSENT = {
    "mlp_in": "its MLP is no single module that reads one activation",
    "mlp_norm": "no norm stands before its MLP",
    "mlp_act": "its MLP does not end in one linear map (a mixture of experts has several)",
    "attn_z": "its attention does not end in a linear map of its own",
    "resid_mid": "its MLP reads beside attention, not after it",
}
"""Hook → why a block may be without it."""


def find_taps(
    blocks: Sequence[nn.Module], parts: Sequence[Parts], probe: Callable[[], object]
) -> list[dict[str, Tap]]:
    """For every block, where to read those of mlp_in, mlp_norm, mlp_act, attn_z, resid_mid it has.

    parts: what each block adds (`find_parts`).
    probe: runs the model on a few tokens; called once.
    """
    passes = [_Pass() for _ in blocks]
    with ExitStack() as stack:
        for block, seen in zip(blocks, passes, strict=True):
            for module in block.modules():
                for site, kept in (
                    (Site(module, "input"), seen.entered),
                    (Site(module, "output"), seen.left),
                ):
                    stack.callback(attach(site, _recorder(kept, module)).remove)
        stack.enter_context(torch.no_grad())
        probe()
    return [
        _taps(block, part, seen) for block, part, seen in zip(blocks, parts, passes, strict=True)
    ]


def affine(norm: nn.Module, width: int) -> tuple[Tensor, Tensor]:
    """Gain and bias (width,) that a LayerNorm or RMSNorm applies last, float32 on the CPU.

    Measured, since Gemma's norms store their gain less one. A probe of mean 0 and variance 1
    passes either kind with nothing but gain and bias: norm(±probe) = bias ± gain * probe. It
    enters a thousandfold, beside which the norm's epsilon is nothing.
    """
    turns = (torch.arange(width, dtype=torch.float64) + 1 / 8) / width
    probe = torch.cos(2 * torch.pi * turns) * 2**0.5  # the eighth keeps every entry off zero
    double = copy.deepcopy(norm).double().cpu()
    with torch.no_grad():
        plus, minus = double(1000 * probe), double(-1000 * probe)
    return ((plus - minus) / (2 * probe)).float(), ((plus + minus) / 2).float()


@dataclass
class _Pass:
    """What entered and left the modules of one block, copied; modules in the order of leaving."""

    entered: dict[nn.Module, Tensor] = field(default_factory=dict)
    left: dict[nn.Module, Tensor] = field(default_factory=dict)

    def returning(self, value: Tensor, among: Iterator[nn.Module]) -> list[nn.Module]:
        return [m for m in among if m in self.left and _same(self.left[m], value)]


def _recorder(kept: dict[nn.Module, Tensor], module: nn.Module) -> Callable[[Tensor], None]:
    def record(activation: Tensor) -> None:
        kept[module] = activation.clone()  # some models go on adding into what they passed on

    return record


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether they are one activation, whatever its shape: (B, T, d) or (B·T, d)."""
    return a.numel() == b.numel() and torch.equal(a.reshape(b.shape), b)


def _taps(block: nn.Module, parts: Parts, seen: _Pass) -> dict[str, Tap]:
    taps = {}
    before, attn_out = seen.entered[block], seen.left[parts.attn]
    attention, mlp = (_sublayer(block, part, seen) for part in (parts.attn, parts.mlp))
    last = _last_linear(attention, seen)
    if last is not None:
        taps["attn_z"] = _entering(last, seen)
    last = _last_linear(mlp, seen)
    if last is not None:
        taps["mlp_act"] = _entering(last, seen)
    first = mlp if mlp is not last else _linear_before(mlp, seen)
    if first is None or first not in seen.entered:
        return taps
    taps["mlp_in"] = _entering(first, seen)
    norm = _norm_returning(seen.entered[first], block, seen)
    if norm is not None:
        gain, bias = (t.to(before.device) for t in affine(norm, before.shape[-1]))
        taps["mlp_norm"] = Tap(taps["mlp_in"].sites, len(gain), gain, bias)
    reader = seen.entered[first if norm is None else norm]
    if _near(reader, before.reshape(reader.shape) + attn_out.reshape(reader.shape)):
        taps["resid_mid"] = Tap(
            (Site(block, "input"), Site(parts.attn, "output"))
            if parts.summed or norm is None
            else (Site(norm, "output"),),
            before.shape[-1],
        )
    return taps


def _entering(module: nn.Module, seen: _Pass) -> Tap:
    return Tap((Site(module, "input"),), seen.entered[module].shape[-1])


def _sublayer(block: nn.Module, part: nn.Module, seen: _Pass) -> nn.Module:
    """`part`, or where it is but a norm the outermost module that returns what it normalises."""
    if _maps(part):
        return part
    found = seen.returning(seen.entered[part], (m for m in block.modules() if _maps(m)))
    return found[0] if found else part


def _maps(module: nn.Module) -> bool:
    """Whether a matrix is among its parameters; norms and activation functions have none."""
    return any(parameter.dim() >= 2 for parameter in module.parameters())


def _is_linear(module: nn.Module) -> bool:
    """nn.Linear, transformers' Conv1D, quantised ones."""
    weight = getattr(module, "weight", None)
    childless = next(module.children(), None) is None
    return childless and isinstance(weight, Tensor) and weight.dim() == 2


def _last_linear(sublayer: nn.Module, seen: _Pass) -> nn.Module | None:
    """The linear map that returns what the sublayer returns."""
    found = seen.returning(seen.left[sublayer], filter(_is_linear, sublayer.modules()))
    return found[0] if len(found) == 1 and found[0] in seen.entered else None


def _linear_before(last: nn.Module, seen: _Pass) -> nn.Module | None:
    """Where no module holds the whole MLP: the linear map that ran before the last."""
    ran = [module for module in seen.left if _is_linear(module)]
    first = ran[max(ran.index(last) - 1, 0)]
    reads = [m for m in ran if m is not last and _same(seen.entered[m], seen.entered[first])]
    feeds = seen.left[first].numel() == seen.entered[last].numel()
    return first if feeds and reads == [first] else None


def _norm_returning(value: Tensor, block: nn.Module, seen: _Pass) -> nn.Module | None:
    """The norm that returned `value`: no map, and not what passes on its input (dropout)."""
    found = seen.returning(value, (m for m in block.modules() if not _maps(m)))
    found = [m for m in found if m in seen.entered and not _same(seen.entered[m], value)]
    return found[0] if found else None


def _near(a: Tensor, b: Tensor) -> bool:
    """Whether they are equal up to rounding."""
    slack = 1e-3 + 2 * torch.finfo(a.dtype).eps
    return float((a.double() - b.double()).norm()) <= slack * float(b.double().norm())
