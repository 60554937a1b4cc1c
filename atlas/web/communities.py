"""/api/communities, /api/community: groups of features that go together, and their members."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.errors import BadInput, NotFound
from atlas.web.given import Given
from atlas.web.overview import clusterings
from atlas.web.places import Place
from atlas.web.viewed import Connection, Viewed, columns_of, records

_MOST = 1000
_MOST_MEMBERS = 5000
_TOP = 5


class Members:
    """The community of each feature of one clustering."""

    def __init__(self, feature_id: NDArray[np.int64], community: NDArray[np.int64]) -> None:
        """feature_id: ascending."""
        self._feature_id = feature_id
        self._community = community

    def of(self, feature_id: NDArray[np.int64]) -> NDArray[np.int64]:
        """The communities of some features, -1 where one has none."""
        if not len(self._feature_id):
            return np.full(len(feature_id), -1)
        at = np.searchsorted(self._feature_id, feature_id)
        at = np.minimum(at, len(self._feature_id) - 1)
        return np.where(self._feature_id[at] == feature_id, self._community[at], -1)

    def get(self, feature_id: int) -> int | None:
        """The community of one feature, None if it has none."""
        found = int(self.of(np.array([feature_id]))[0])
        return None if found < 0 else found


def of_place(
    viewed: Viewed, atlas: Connection, place: Place, measure: str, asked: str | None
) -> int | None:
    """The clustering that colours a graph: the one asked for, else one by its measure, else any.

    None if there is none of this place; NotFound for one asked for that is not of this place.
    """
    mine = [
        one
        for one in viewed.keep("clusterings", lambda own: clusterings(viewed, own))
        if (one["model"], one["hook"], one["variant"]) == (place.model, place.hook, place.variant)
    ]
    if asked is not None:
        known = [one["clustering_id"] for one in mine if str(one["clustering_id"]) == asked]
        if not known:
            raise NotFound(
                f"There is no clustering {asked!r} of {place.model} {place.hook}; see the table "
                "clusterings."
            )
        return int(known[0])
    best = sorted(mine, key=lambda one: one["measure"] != measure)
    return int(best[0]["clustering_id"]) if best else None


def members_of(viewed: Viewed, atlas: Connection, place: Place, clustering: int | None) -> Members:
    """The communities of a clustering's features; of None, nobody has one."""

    def read(own: Connection) -> Members:
        if clustering is None:
            return Members(np.empty(0, np.int64), np.empty(0, np.int64))
        found = columns_of(
            own,
            "select feature_id, community::bigint as community from communities"
            " where clustering_id = ? order by feature_id",
            [clustering],
        )
        return Members(found["feature_id"], found["community"])

    return viewed.keep(("members", clustering), read)


def communities(viewed: Viewed, atlas: Connection, given: Given) -> dict[str, Any]:
    """The communities of a clustering, the largest first, or those with a word in their label."""
    clustering = _asked(viewed, atlas, given)
    words = given.optional("q", 200)
    found = records(
        atlas,
        """
        select community, label, n_features from community_labels
        where clustering_id = $clustering and ($words is null or contains(lower(label), $words))
        order by community limit $n
        """,
        {
            "clustering": clustering["clustering_id"],
            "words": words and words.lower(),
            "n": given.integer("limit", 200, 1, _MOST),
        },
    )
    asked = [clustering["clustering_id"], [one["community"] for one in found]]
    layers = _grouped(
        atlas,
        """
        select community, layer, count(*) as n
        from communities join feature_names using (feature_id)
        where clustering_id = ? and list_contains(?::integer[], community)
        group by all order by community, layer
        """,
        asked,
    )
    top = _grouped(
        atlas,
        f"""
        select community, feature, label
        from communities
        join feature_names using (feature_id)
        join features using (feature_id)
        left join best_labels using (feature_id)
        where clustering_id = ? and list_contains(?::integer[], community)
        qualify row_number() over (
            partition by community order by density desc, feature_id
        ) <= {_TOP}
        order by community, density desc, feature_id
        """,
        asked,
    )
    for one in found:
        one["layers"] = layers.get(one["community"], [])
        one["top"] = top.get(one["community"], [])
    return {"clustering": clustering, "communities": found}


def community(viewed: Viewed, atlas: Connection, given: Given) -> dict[str, Any]:
    """One community and its features, layer by layer, the densest first."""
    clustering = _asked(viewed, atlas, given)["clustering_id"]
    number = given.integer("id", -1, -1, (1 << 31) - 1)
    found = records(
        atlas,
        """
        select community, label, n_features from community_labels
        where clustering_id = ? and community = ?
        """,
        [clustering, number],
    )
    if not found:
        raise NotFound(f"Clustering {clustering} has no community {number}.")
    members = records(
        atlas,
        """
        select feature, feature_id, layer, label, density
        from communities
        join feature_names using (feature_id)
        join features using (feature_id)
        left join best_labels using (feature_id)
        where clustering_id = $clustering and community = $community
        order by layer, density desc, feature_id limit $n
        """,
        {
            "clustering": clustering,
            "community": number,
            "n": given.integer("limit", 500, 1, _MOST_MEMBERS),
        },
    )
    return {**found[0], "members": members}


def _asked(viewed: Viewed, atlas: Connection, given: Given) -> dict[str, Any]:
    """The clustering that a request names."""
    asked = given.text("clustering", 20)
    if not asked.isdigit():
        raise BadInput(f"clustering is the number of one, not {asked!r}.")
    for one in viewed.keep("clusterings", lambda own: clusterings(viewed, own)):
        if one["clustering_id"] == int(asked):
            return one
    raise NotFound(f"{viewed.path} has no clustering {asked}; see the table clusterings.")


def _grouped(
    atlas: Connection, query: str, parameters: list[Any]
) -> dict[int, list[dict[str, Any]]]:
    """Rows of a query by their community."""
    grouped: dict[int, list[dict[str, Any]]] = {}
    for row in records(atlas, query, parameters):
        grouped.setdefault(row.pop("community"), []).append(row)
    return grouped
