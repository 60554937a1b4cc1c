"""/api/search, /api/feature, /api/neighbours: features by words, one of them, and those like it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from atlas.cards import card
from atlas.web.given import Given
from atlas.web.places import places
from atlas.web.viewed import Connection, Viewed, records

_MOST_CONTEXTS = 100
_TOPS = 20
_BINS = 40
_MOST_RESULTS = 200
_MOST_NEIGHBOURS = 50


def search(viewed: Viewed, atlas: Connection, given: Given) -> dict[str, Any]:
    """Features by words, best first, by the macro find(); without words, by their labels' score."""
    words = given.optional("q", 500)
    limit = given.integer("limit", 50, 1, _MOST_RESULTS)
    within = given.optional("within")
    if words is None:
        return {"results": _best_labelled(atlas, limit, within)}
    viewed.keep("terms", _keep_terms)
    # find() reads the view _terms, which splits every label and word anew at each search.
    atlas.execute("create temp view _terms as from searched.main.terms")
    found = records(
        atlas,
        """
        select
            found.feature, found.feature_id, found.label, best_labels.score as label_score,
            found.score, feature_names.sae, models.name as model, feature_names.layer,
            features.density
        from find($words, n := $n, within := $within) as found
        join feature_names using (feature_id)
        join features using (feature_id)
        join saes on saes.sae_id = features.sae_id
        join models using (model_id)
        left join best_labels using (feature_id)
        order by found.rank
        """,
        {"words": words, "n": limit, "within": within},
    )
    return {"results": found}


def _best_labelled(atlas: Connection, limit: int, within: str | None) -> list[dict[str, Any]]:
    """Features of the SAEs `within` (None: of all) by the score of their best label."""
    return records(
        atlas,
        """
        select
            feature_names.feature, feature_id, best_labels.label,
            best_labels.score as label_score, null::double as score, feature_names.sae,
            models.name as model, feature_names.layer, features.density
        from best_labels
        join features using (feature_id)
        join feature_names using (feature_id)
        join saes on saes.sae_id = features.sae_id
        join models using (model_id)
        where list_contains(saes_in($within), features.sae_id)
        order by best_labels.score desc nulls last, features.density desc, feature_id
        limit $n
        """,
        {"n": limit, "within": within},
    )


def _keep_terms(atlas: Connection) -> bool:
    """Copy the terms of all features into a database in memory, which every connection sees."""
    atlas.execute("attach if not exists ':memory:' as searched (read_write)")
    atlas.execute("create table if not exists searched.main.terms as from _terms")
    return True


def feature(viewed: Viewed, atlas: Connection, given: Given) -> dict[str, Any]:
    """One feature: its card, how strong its activations are, its communities and its place."""
    found = card(
        atlas,
        given.text("name"),
        contexts=given.integer("contexts", 20, 0, _MOST_CONTEXTS),
        tops=_TOPS,
    )
    return {
        "card": dataclasses.asdict(found),
        "histogram": _histogram(atlas, found.feature_id),
        "communities": _communities(viewed, atlas, found.feature_id),
        "place": [
            {"model": one.model, "hook": one.hook, "variant": one.variant}
            for one in places(viewed, atlas)
            if one.links and one.index_of(found.feature_id) is not None
        ],
    }


def _histogram(atlas: Connection, feature_id: int) -> dict[str, Any]:
    """Its activations above 0 in bins of one width, from 0 to the largest."""
    ((scale, max_q),) = atlas.rows(
        "select scale, max_q from features join saes using (sae_id) where feature_id = ?",
        [feature_id],
    )
    if not max_q:
        return {"edges": [], "counts": []}
    counts = [0] * _BINS
    for bin, n in atlas.rows(
        """
        select least(q::bigint * $bins // $most, $bins - 1), count(*)
        from activations where feature_id = $feature group by 1
        """,
        {"bins": _BINS, "most": max_q, "feature": feature_id},
    ):
        counts[bin] = n
    return {"edges": [i * max_q * scale / _BINS for i in range(_BINS + 1)], "counts": counts}


def _communities(viewed: Viewed, atlas: Connection, feature_id: int) -> list[dict[str, Any]]:
    if not viewed.has("communities", "community_labels"):
        return []
    return records(
        atlas,
        """
        select clustering_id, community, label, n_features
        from communities
        left join community_labels using (clustering_id, community)
        where feature_id = ?
        order by clustering_id desc
        """,
        [feature_id],
    )


def neighbours(viewed: Viewed, atlas: Connection, given: Given) -> dict[str, Any]:
    """The features most like one, model by model: the macro similar(), by activation over words."""
    feature_id = atlas.feature_id(given.text("name"))
    k = given.integer("k", 8, 1, _MOST_NEIGHBOURS)
    return neighbours_of(atlas, [feature_id], k)[feature_id]


def neighbours_of(atlas: Connection, ids: Sequence[int], k: int) -> dict[int, dict[str, Any]]:
    """The k nearest in each model of several features, by id, each as `neighbours` has it."""
    found = records(
        atlas,
        """
        select
            asked.feature_id as asked, asked.model, near.feature, near.feature_id, near.score,
            best_labels.label, feature_names.sae, feature_names.layer
        from (
            select unnest($ids::bigint[]) as feature_id, models.name as model, model_id from models
        ) as asked, similar(asked.feature_id, k := $k, within := asked.model) as near
        join feature_names on feature_names.feature_id = near.feature_id
        left join best_labels on best_labels.feature_id = near.feature_id
        order by asked.feature_id, asked.model_id, near.rank
        """,
        {"ids": ids, "k": k},
    )
    models = [name for (name,) in atlas.rows("select name from models order by model_id")]
    near: dict[int, dict[str, list[dict[str, Any]]]] = {
        one: {model: [] for model in models} for one in ids
    }
    for one in found:
        near[one.pop("asked")][one.pop("model")].append(one)
    return {
        one: {"models": [{"model": model, "neighbours": hits} for model, hits in mine.items()]}
        for one, mine in near.items()
    }
