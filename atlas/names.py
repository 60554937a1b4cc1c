"""What SAEs are called: `model/layer-hook[-variant]`, and a feature `…/index`.

A model's name may itself hold slashes and dashes; the last segments decide. Names are read in SQL:
see sql/macros/names/.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from atlas.errors import BadInput

HOOKS = ("resid_pre", "resid_post", "mlp_out", "attn_out")
"""Hook points an SAE may read; see `atlas.ingest.models` for where each lies in a block."""

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
