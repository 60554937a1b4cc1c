"""The labels of a layered graph's features, kept in memory."""

from __future__ import annotations

from atlas.web.places import Place
from atlas.web.viewed import Connection, Viewed

Labels = dict[int, tuple[str | None, float | None]]
"""feature_id → label and score; a feature without a label has no entry."""


def labels_of(viewed: Viewed, atlas: Connection, place: Place) -> Labels:
    """The best label of each feature of a place."""
    return viewed.keep(("labels", place), lambda own: _read(own, place))


def _read(atlas: Connection, place: Place) -> Labels:
    rows = atlas.rows(
        """
        select feature_id, label, score from best_labels
        join features using (feature_id)
        where list_contains(?::integer[], sae_id)
        """,
        [[sae.sae_id for sae in place.saes]],
    )
    return {feature_id: (label, score) for feature_id, label, score in rows}
