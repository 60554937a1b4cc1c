"""Layered graphs: SAEs of one model, hook and variant, layer by layer, and the links between."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from atlas.errors import NotFound
from atlas.web.given import Given
from atlas.web.viewed import Connection, Viewed


@dataclass(frozen=True)
class PlacedSae:
    """One layer of a graph."""

    sae_id: int
    name: str
    layer: int
    first_feature_id: int
    d_sae: int


@dataclass(frozen=True)
class Link:
    """Two layers whose joint statistics are stored."""

    link_id: int
    lower: int
    """Index of the upstream SAE among the place's."""
    over: str


@dataclass(frozen=True)
class Place:
    """A graph's layers, from first to last, and the links of each to the next."""

    model: str
    hook: str
    variant: str | None
    saes: tuple[PlacedSae, ...]
    links: tuple[Link, ...]

    def described(self) -> dict[str, Any]:
        """As the page is told of it."""
        layers = [sae.layer for sae in self.saes]
        return {
            "model": self.model,
            "hook": self.hook,
            "variant": self.variant,
            "layers": layers,
        }

    def index_of(self, feature_id: int) -> int | None:
        """Which of its SAEs holds a feature, None if none does."""
        for i, sae in enumerate(self.saes):
            if 0 <= feature_id - sae.first_feature_id < sae.d_sae:
                return i
        return None


def places(viewed: Viewed, atlas: Connection) -> list[Place]:
    """Every layered graph of the atlas, those without links included."""
    return viewed.keep("places", lambda own: _read(viewed, own))


def asked_place(viewed: Viewed, atlas: Connection, given: Given) -> Place:
    """The graph that a request names by model, hook and variant; NotFound if it has no links."""
    asked = (given.text("model"), given.text("hook"), given.optional("variant"))
    for one in places(viewed, atlas):
        if (one.model, one.hook, one.variant) == asked and one.links:
            return one
    name = " ".join(part for part in asked if part)
    raise NotFound(
        f"{viewed.path} has no linked layers of {name}; link them with "
        f"`atlas link {viewed.path} {asked[0]}`."
    )


def _read(viewed: Viewed, atlas: Connection) -> list[Place]:
    rows = atlas.rows(
        """
        select models.name, hook, variant, sae_id, saes.name, layer, first_feature_id, d_sae
        from saes join models using (model_id)
        order by model_id, hook, variant nulls first, layer, sae_id
        """
    )
    grouped: dict[tuple[str, str, str | None], dict[int, PlacedSae]] = {}
    for model, hook, variant, *sae in rows:
        placed = PlacedSae(*sae)
        grouped.setdefault((model, hook, variant), {})[placed.layer] = placed
    links: dict[tuple[int, int], tuple[int, str]] = {}
    if viewed.has("links", "edges"):
        # The newest stands last, and tokens after words.
        for a, b, link_id, over in atlas.rows(
            "select sae_a, sae_b, link_id, over from links order by over = 'tokens', link_id"
        ):
            links[a, b] = (link_id, over)
    found = []
    for (model, hook, variant), by_layer in grouped.items():
        saes = tuple(by_layer.values())
        pairs = itertools.pairwise(saes)
        mine = tuple(
            Link(link[0], lower, link[1])
            for lower, (a, b) in enumerate(pairs)
            if (link := links.get((a.sae_id, b.sae_id)))
        )
        found.append(Place(model, hook, variant, saes, mine))
    return found
