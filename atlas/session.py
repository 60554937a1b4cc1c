"""class Atlas as Python users hold it: the store, with features and neighbours as objects."""

from __future__ import annotations

import os
from dataclasses import dataclass

from atlas import cards, kernels, store
from atlas.cards import FeatureCard


@dataclass(frozen=True)
class Hit:
    """One answer of a neighbour search."""

    rank: int
    feature: str
    """Name: `model/layer-hook[-variant]/index`."""
    score: float
    """Pearson's r over words, or the cosine of directions."""
    feature_id: int


class Atlas(store.Atlas):
    """An open atlas: rows by `sql`, one feature by `feature`, its neighbours by `similar`."""

    def feature(self, feature: str | int, *, contexts: int = 10) -> FeatureCard:
        """All that is known of a feature given by name or id; NotFound for one that is not there.

        contexts: how many stretches of text to bring along.
        """
        return cards.card(self, feature, contexts=contexts)

    def similar(
        self,
        feature: str | int | FeatureCard,
        k: int = 10,
        *,
        by: str = "activation",
        within: str | None = None,
    ) -> list[Hit]:
        """The k features most like one, best first: the macro `similar` as objects.

        by: 'activation' (any model), 'decoder' or 'encoder' (cosine, within the same space).
        within: name of a model or an SAE to search in, or a pattern.
        """
        asked = feature.feature_id if isinstance(feature, FeatureCard) else self.feature_id(feature)
        rows = self.rows(
            "select rank, feature, score, feature_id"
            " from similar(?, k := ?, by := ?, within := ?) order by rank",
            [asked, k, by, within],
        )
        return [Hit(*row) for row in rows]


def open_atlas(path: str | os.PathLike[str], *, write: bool = False, wait: float = 0.0) -> Atlas:
    """Open an atlas, read-only unless `write`, with the macros that need Python connected.

    wait: seconds to wait while another process holds the file.
    """
    opened = Atlas.open(path, write=write, wait=wait)
    kernels.install(opened)
    return opened


def create_atlas(path: str | os.PathLike[str]) -> Atlas:
    """Make a new, empty atlas, open for writing, with the macros that need Python connected."""
    made = Atlas.create(path)
    kernels.install(made)
    return made
