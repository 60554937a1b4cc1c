"""Where the residual stream of a transformers model runs: its blocks, and what each adds.

Blocks are found by shape rather than by name: the one list of equal modules that is as long as
the configuration says the model is deep.

What attention and MLP write into the residual stream is found by measurement, since neither the
family's name nor the modules' names settle it (Gemma 2 normalises each output before adding it,
GPT-NeoX adds both in parallel, `post_attention_layernorm` is an output of attention in Gemma 2
and the input of the MLP in Llama): in one short forward pass, the two parts of a block are those
whose outputs add up to the block's output less its input. Where the sum is normalised again
(post-norm: GPT-1, BERT, OPT-350m) there is no such identity, so those families have a table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from atlas.errors import BadInput
from atlas.ingest.models.hooks import Site, attach

_POST_NORM = {
    "openai-gpt": ("attn", "mlp"),
    "bert": ("attention.output.dense", "output.dense"),
    "roberta": ("attention.output.dense", "output.dense"),
    "xlm-roberta": ("attention.output.dense", "output.dense"),
    "camembert": ("attention.output.dense", "output.dense"),
    "electra": ("attention.output.dense", "output.dense"),
    "distilbert": ("attention", "ffn"),
    "opt": ("self_attn", "fc2"),
}
"""model_type → the outputs that a post-norm block adds: h = LN(h + attn); h = LN(h + mlp).

OPT stands here for its post-norm sizes; in the others the same two modules obey the identity.
"""

_BEFORE, _AFTER = "<", ">"  # no module can be named so


@dataclass(frozen=True)
class Parts:
    """What one block adds to the residual stream: the modules that return it."""

    attn: nn.Module
    mlp: nn.Module
    summed: bool = True
    """Whether the stream is the bare sum; a post-norm block normalises each sum."""


def find_blocks(
    model: nn.Module, depth: int | None, block_path: str | None
) -> tuple[str, list[nn.Module]]:
    """The path of the model's blocks ('model.layers') and the blocks, first to last.

    depth: the number of layers that the configuration declares, None where it is silent.
    block_path: the user's word on the path, which then needs no agreement with `depth`.

    Raises BadInput, naming --block-path and the candidates, where there is no or no single
    such list.
    """
    lists = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential) and len(module)
    }
    if block_path is not None:
        if block_path not in lists:
            raise BadInput(
                f"--block-path {block_path!r} is no list of blocks in this model; "
                f"{_offer(_outermost(lists))}"
            )
        return block_path, list(lists[block_path])
    candidates = _outermost(
        {
            path: module
            for path, module in lists.items()
            if isinstance(module, nn.ModuleList)
            and len({type(block) for block in module}) == 1
            and (depth is None or len(module) == depth)
        }
    )
    if len(candidates) > 1:
        # A model that also sees or hears has one stack for each; text is what we feed it.
        candidates = [path for path in candidates if "language_model" in path] or candidates
    if len(candidates) != 1:
        found = "several lists" if candidates else "no list"
        raise BadInput(
            f"found {found} of {depth or 'any number of'} equal blocks in this model; "
            f"{_offer(candidates or _outermost(lists))}"
        )
    return candidates[0], list(lists[candidates[0]])


def _outermost(paths: Collection[str]) -> list[str]:
    return [p for p in paths if not any(p.startswith(other + ".") for other in paths)]


def _offer(paths: Sequence[str]) -> str:
    if not paths:
        return "it has none, so it cannot be read by its blocks."
    return f"name the blocks with --block-path, one of: {', '.join(paths[:8])}."


def find_parts(
    blocks: Sequence[nn.Module], config: Any, probe: Callable[[], object]
) -> list[Parts]:
    """The attention and MLP outputs of every block.

    config: the transformers configuration of the text model.
    probe: runs the model on a few tokens (called once, and only where the table is silent).

    Raises BadInput where no two outputs of some block add up to what it adds.
    """
    if config.model_type in _POST_NORM and not getattr(config, "do_layer_norm_before", False):
        attn, mlp = _POST_NORM[config.model_type]
        return [
            Parts(block.get_submodule(attn), block.get_submodule(mlp), summed=False)
            for block in blocks
        ]
    seen: list[dict[str, Tensor]] = [{} for _ in blocks]
    with ExitStack() as stack:
        for block, outputs in zip(blocks, seen, strict=True):
            sites = {_BEFORE: Site(block, "input"), _AFTER: Site(block, "output")}
            for name, child in block.named_children():
                if not isinstance(child, nn.Dropout):  # passes on what was seen already
                    sites[name] = Site(child, "output")
            for name, site in sites.items():
                stack.callback(attach(site, _recorder(outputs, name)).remove)
        stack.enter_context(torch.no_grad())
        probe()
    return [
        _matching(layer, block, outputs)
        for layer, (block, outputs) in enumerate(zip(blocks, seen, strict=True))
    ]


def _recorder(outputs: dict[str, Tensor], name: str) -> Callable[[Tensor], None]:
    def record(activation: Tensor) -> None:
        outputs[name] = activation.clone()  # Falcon adds into its MLP's output afterwards

    return record


def _matching(layer: int, block: nn.Module, outputs: dict[str, Tensor]) -> Parts:
    """The pair of parts whose outputs sum to what the block adds, up to rounding."""
    before, after = outputs[_BEFORE].double(), outputs[_AFTER].double()
    added = after - before
    rounding = 2 * torch.finfo(outputs[_AFTER].dtype).eps * (before.norm() + after.norm())
    parts = {
        name: output.double().reshape(added.shape)
        for name, output in outputs.items()
        if name not in (_BEFORE, _AFTER) and output.numel() == added.numel()
    }
    attentions = [name for name in parts if "attn" in name or "attention" in name]
    others = [name for name in parts if name not in attentions]
    errors = {
        (attn, mlp): float((added - parts[attn] - parts[mlp]).norm())
        for attn, mlp in product(attentions, others)
    }
    best = min(errors, key=errors.__getitem__, default=None)
    if best is None or errors[best] > 1e-3 * added.norm() + rounding:
        raise BadInput(
            f"cannot tell what attention and MLP add in layer {layer} of this model, whose "
            f"{type(block).__name__} is not a sum of two of its parts; of its hooks only "
            "resid_pre and resid_post can be used."
        )
    return Parts(block.get_submodule(best[0]), block.get_submodule(best[1]))
