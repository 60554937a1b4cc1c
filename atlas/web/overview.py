"""/api/atlas: what there is to look at."""

from __future__ import annotations

from typing import Any

from atlas.web.given import Given
from atlas.web.measures import AT_LEAST
from atlas.web.places import places
from atlas.web.sentence import runnable
from atlas.web.viewed import Connection, Viewed, records


def overview(viewed: Viewed, atlas: Connection, given: Given) -> dict[str, Any]:
    """Models, SAEs, layered graphs, links, clusterings and comparisons of the atlas."""
    return viewed.keep("overview", lambda own: _read(viewed, own))


def _read(viewed: Viewed, atlas: Connection) -> dict[str, Any]:
    corpora = records(
        atlas, "select name, n_documents, n_words, n_characters from corpora where corpus_id = 0"
    )
    return {
        "path": str(viewed.path),
        "name": viewed.path.stem,
        "format": atlas.meta("format"),
        "corpus": corpora[0] if corpora else None,
        "models": _models(atlas),
        "graphs": [one.described() for one in places(viewed, atlas) if one.links],
        "links": _links(viewed, atlas),
        "clusterings": clusterings(viewed, atlas),
        "comparisons": _comparisons(viewed, atlas),
        "measures": list(AT_LEAST),
        "sentence": runnable(atlas),
    }


def _models(atlas: Connection) -> list[dict[str, Any]]:
    saes = records(
        atlas,
        """
        select
            sae_cards.model, sae_cards.sae, sae_cards.layer, sae_cards.hook, sae_cards.variant,
            sae_cards.architecture, sae_cards.d_sae, counted.n_alive, sae_cards.l0,
            sae_cards.explained_variance, sae_cards.ce_recovered
        from sae_cards
        join (
            select sae_id, count(*) filter (alive) as n_alive from features group by sae_id
        ) as counted using (sae_id)
        order by sae_cards.layer, sae_cards.sae_id
        """,
    )
    models = records(
        atlas,
        """
        select
            model, model_type as type, n_layers, d_model, n_parameters, tokenizer,
            corpus_tokens as n_tokens
        from model_cards order by model_id
        """,
    )
    for model in models:
        mine = [sae for sae in saes if sae["model"] == model["model"]]
        model["saes"] = [{k: v for k, v in sae.items() if k != "model"} for sae in mine]
    return models


def _links(viewed: Viewed, atlas: Connection) -> list[dict[str, Any]]:
    if not viewed.has("links"):
        return []
    return records(
        atlas,
        """
        select a.name as sae_a, b.name as sae_b, links.over, links.min_joint, links.n_pairs
        from links
        join saes as a on a.sae_id = links.sae_a
        join saes as b on b.sae_id = links.sae_b
        order by links.link_id
        """,
    )


def clusterings(viewed: Viewed, atlas: Connection) -> list[dict[str, Any]]:
    """Every clustering of the atlas, the newest first."""
    if not viewed.has("clusterings"):
        return []
    return records(
        atlas,
        """
        select
            clustering_id, models.name as model, hook, variant, method, resolution, measure,
            at_least, n_communities, quality, stability
        from clusterings join models using (model_id)
        order by clustering_id desc
        """,
    )


def _comparisons(viewed: Viewed, atlas: Connection) -> list[dict[str, Any]]:
    if not viewed.has("universality"):
        return []
    return records(
        atlas,
        """
        from (
            select model_a, model_b, metric, subspace, count(*) as n from universality group by all
        )
        order by model_a, model_b, subspace != 'all', subspace, metric
        """,
    )
