"""How two SAEs' features are paired: the choices that a pairing's result depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from atlas.activations import Over
from atlas.errors import BadInput

WHOLE = "all"
"""The subspace of all features; any other one is a category."""

METHODS = {
    "mutual": "each is the other's best: one-to-one, and features without such a partner are left "
    "out",
    "best": "the best of B for every feature of A: many-to-one",
    "hungarian": "one-to-one with the largest sum of correlations",
    "lan2024": "as Lan et al. 2024 (arXiv 2410.06981) published it: the best of A for every "
    "feature of B, first seen of each A, filtered, r > .1",
    "sae_match": "by weights alone, as SAE Match (Balagansky et al., arXiv 2410.07656): one-to-one "
    "with the least distance of folded directions",
}
"""Ways to pair features, and what each does."""


@dataclass(frozen=True)
class PairingSettings:
    """Every choice that decides which features are paired, and how their chance is judged."""

    method: str = "mutual"
    over: Over = "words"
    """'words', on which all models meet, or 'tokens', for SAEs of one tokenizer."""
    min_joint: int = 20
    """Words (tokens) on which both features of a pair must be active, of those that choose."""
    concepts_only: bool = False
    """Leave out features that fire on non-concepts: punctuation, white space (table
    `non_concepts`)."""
    shifts: int = 20
    """Circular shifts of B's activations behind each p; 0 leaves p out."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise BadInput(f"method is one of {', '.join(METHODS)}, not {self.method!r}.")
        if self.over not in get_args(Over):
            raise BadInput(f"over is 'words' or 'tokens', not {self.over!r}.")
        if self.min_joint < 1:
            raise BadInput(f"min_joint is at least 1, not {self.min_joint}.")
        if self.shifts < 0:
            raise BadInput(f"shifts is a number of circular shifts, not {self.shifts}.")


@dataclass(frozen=True)
class Tests:
    """How a value of paired features is judged against chance."""

    __test__ = False  # no tests of pytest's

    permutations: int = 1000
    """Shufflings of the pairs."""
    subsets: int = 200
    """Draws of as many random features."""

    def __post_init__(self) -> None:
        for name in ("permutations", "subsets"):
            if getattr(self, name) < 0:
                raise BadInput(f"{name} is a number of draws, not {getattr(self, name)}.")
