"""Names of SAEs and features: `model/layer-hook[-variant]` and `…/index`.

A model's name may itself hold slashes and dashes; the last segments decide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from atlas.errors import BadInput

HOOKS = ("resid_pre", "resid_post", "mlp_out", "attn_out")
"""Hook points an SAE may read; see `atlas.ingest.models` for where each lies in a block."""

_SITE = re.compile(rf"(?P<layer>\d+)-(?P<hook>{'|'.join(HOOKS)})(?:-(?P<variant>.+))?")
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


@dataclass(frozen=True, order=True)
class FeatureName:
    """The parts of `model/layer-hook[-variant]/index`."""

    sae: SaeName
    index: int

    def __str__(self) -> str:
        return f"{self.sae}/{self.index}"


def parse_sae(name: str) -> SaeName:
    """Split an SAE's name; BadInput if it is not of the form `model/layer-hook[-variant]`."""
    model, slash, site = name.rpartition("/")
    match = _SITE.fullmatch(site)
    if not slash or not match or not _MODEL.fullmatch(model):
        raise BadInput(
            f"{name!r} is not an SAE's name; write MODEL/LAYER-HOOK, such as "
            "'pythia-70m/3-resid_post'."
        )
    layer, variant = match["layer"], match["variant"]
    if str(int(layer)) != layer or (variant and not _VARIANT.fullmatch(variant)):
        raise BadInput(
            f"{name!r} is not an SAE's name: the layer is a plain number and the "
            "variant is of letters, digits and . _ + = -."
        )
    return SaeName(model, int(layer), match["hook"], variant)


def parse_feature(name: str) -> FeatureName:
    """Split a feature's name; BadInput if it is no `model/layer-hook[-variant]/index`."""
    sae, slash, index = name.rpartition("/")
    if not slash or not index.isascii() or not index.isdigit() or str(int(index)) != index:
        raise BadInput(
            f"{name!r} is not a feature's name; write MODEL/LAYER-HOOK/INDEX, such as "
            "'pythia-70m/3-resid_post/12'."
        )
    return FeatureName(parse_sae(sae), int(index))


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
