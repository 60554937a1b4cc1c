"""What SAEs are called: `model/layer-hook[-variant]`, and a feature `…/index`.

A model's name may itself hold slashes and dashes; the last segments decide. Names are read in SQL:
see sql/macros/names/.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from atlas.errors import BadInput

HOOKS = (
    "resid_pre",
    "resid_post",
    "mlp_out",
    "attn_out",
    "mlp_in",
    "mlp_norm",
    "resid_mid",
    "attn_z",
    "mlp_act",
)
"""Hook points a dictionary may read; `atlas.ingest.models.language_model` says where each lies.

What TransformerLens 3.9 calls them, within `blocks.L.` and where weights are not processed:

    resid_pre   hook_resid_pre          resid_mid   hook_resid_mid
    resid_post  hook_resid_post         attn_z      attn.hook_z, heads flattened
    attn_out    hook_attn_out           mlp_act     mlp.hook_post
    mlp_out     hook_mlp_out            mlp_norm    ln2.hook_normalized

so `ln2.hook_normalized` is not what the MLP reads but x / scale *before* gain and bias of the norm,
in LayerNorm and RMSNorm alike, and the same whether or not `fold_ln` moved these into the weights.
The transcoders of Gemma Scope 1 are made for it ("we fold the pre-MLP RMS norm gain parameters
into the MLP input matrices", Lieberum et al. 2024, appendix), as are those trained on a model with
folded norms (GPT-2 small, Dunefsky et al. 2024). But before version 3.0, TransformerLens's
*LayerNorm* (GPT-2, Pythia) fired the hook behind gain and bias (its issue 747): what was trained
there on an unprocessed model reads `mlp_in`. This is what the norm module returns in Hugging Face
(Gemma Scope 2: `pre_feedforward_layernorm.output`) and what enters its MLP module;
TransformerLens's `hook_mlp_in` is another place, the residual stream before the norm: resid_mid,
or resid_pre where attention and MLP stand side by side.
"""

_MODEL = re.compile(r"[^\s/](?:[^\n\r\t]*[^\s/])?")
_VARIANT = re.compile(r"[\w.+=-]+")


@dataclass(frozen=True, order=True)
class SaeName:
    """The parts of `model/layer-hook[-variant]`."""

    model: str
    layer: int
    hook: str
    variant: str | None = None

    def __str__(self) -> str:
        variant = f"-{self.variant}" if self.variant else ""
        return f"{self.model}/{self.layer}-{self.hook}{variant}"


def check_model_name(name: str) -> str:
    """Return `name` if it can name a model; BadInput otherwise.

    Commas, patterns and a leading @ are for choosing among names (`atlas export --features`).
    """
    if not _MODEL.fullmatch(name) or "//" in name or set(name) & set(",*?[") or name[0] == "@":
        raise BadInput(
            f"{name!r} cannot name a model: it must not be empty, begin or end with a space or a "
            "slash, begin with @, or hold any of , * ? [; give another with --name."
        )
    return name


def check_variant(variant: str | None) -> str | None:
    """Return `variant` if it can end an SAE's name; BadInput otherwise."""
    if variant is not None and not _VARIANT.fullmatch(variant):
        raise BadInput(f"{variant!r} cannot be a variant: use letters, digits and . _ + = -.")
    return variant
