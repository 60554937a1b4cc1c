"""A stratified sample of stored edges, and the reference contexts where their features meet."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from atlas.errors import BadInput, NotFound
from atlas.ingest.measuring.ablation import LEAST
from atlas.store import Atlas, told

BINS = 10
"""Strata of a link: tenths of the measure's range from 0 on."""

MEASURES = {
    "pearson": 1.0,
    "jaccard": 1.0,
    "sufficiency": 1.0,
    "necessity": 1.0,
    "mutual_information": math.log(2),
    "activation_cosine": 1.0,
}
"""Columns of the view `edges`, each with the largest value it can have."""


@dataclass(frozen=True)
class AblationOptions:
    """Which edges are ablated, and on how much text."""

    n_edges: int = 100
    measure: str = "pearson"
    """Edges are drawn evenly from tenths of its range, in every link."""
    contexts: int = 64
    """Most contexts on which an edge is measured, drawn from those where both features fire."""
    seed: int = 0
    device: str = "auto"


class Link(NamedTuple):
    """Two linked SAEs of one model, upstream and downstream."""

    link_id: int
    model: str
    sae_a: str
    sae_b: str
    first_a: int
    first_b: int
    scale_b: float
    context: int
    """Tokens of text in a context of the upstream SAE, BOS not counted."""
    sha256s: tuple[str, ...]
    """Of model, SAEs and reference corpus."""


class Edge(NamedTuple):
    """Two features by their ids."""

    a: int
    b: int


class Text(NamedTuple):
    """Where the edges of a link are measured."""

    windows: list[NDArray[np.int32]]
    """Token ids of each context, without BOS."""
    of_edge: list[NDArray[np.int64]]
    """Which of the windows, for each edge."""
    least: list[float]
    """What each edge's downstream feature must exceed."""


def links_of(atlas: Atlas, name: str | None, path: Path) -> list[Link]:
    """Links from a layer to a later one of the same model, both of whose SAEs `name` covers.

    name: a model, an SAE or a pattern of SAEs' names; None: the whole atlas. NotFound where there
    is nothing of that name, BadInput where none of it is linked.
    """
    with told(NotFound):
        rows = (
            atlas.cursor()
            .execute(
                """
                select
                    links.link_id, models.name, a.name, b.name, a.first_feature_id,
                    b.first_feature_id, b.scale, a.context, models.sha256, a.sha256, b.sha256,
                    corpora.sha256
                from links
                join saes as a on a.sae_id = links.sae_a
                join saes as b on b.sae_id = links.sae_b
                join models on models.model_id = a.model_id
                join corpora on corpora.corpus_id = 0
                where b.model_id = a.model_id and a.layer < b.layer and links.over = 'tokens'
                and list_contains((select saes_in($name)), links.sae_a)
                and list_contains((select saes_in($name)), links.sae_b)
                order by models.model_id, links.link_id
                """,
                {"name": name},
            )
            .fetchall()
        )
    if not rows:
        what = path if name is None else repr(name)
        raise BadInput(f"No two layers of {what} are linked; run `atlas link {path}` first.")
    return [Link._make([*row[:8], tuple(row[8:])]) for row in rows]


def sample_edges(
    atlas: Atlas, links: Sequence[Link], options: AblationOptions
) -> list[tuple[Link, Edge]]:
    """Edges in turns, one of each stratum in which there is one left.

    Which one comes next is decided by hashes of the seed and the ids, so that a larger sample
    begins with the smaller one.
    """
    by_id = {link.link_id: link for link in links}
    rows = atlas.rows(
        f"""
        with
        placed as (
            select
                link_id, feature_id_a, feature_id_b,
                least({BINS - 1}, floor({BINS} * {options.measure} / $top)::integer) as bin
            from edges
            where list_contains($links::integer[], link_id) and {options.measure} > 0
        ),
        turns as (
            select
                *,
                row_number() over (
                    partition by link_id, bin
                    order by md5(concat_ws(' ', $seed, feature_id_a, feature_id_b)),
                        feature_id_a, feature_id_b
                ) as turn
            from placed
        )
        select link_id, feature_id_a, feature_id_b
        from turns
        order by turn, md5(concat_ws(' ', $seed, link_id, bin)), link_id, bin
        limit $n
        """,
        {
            "links": list(by_id),
            "top": MEASURES[options.measure],
            "seed": options.seed,
            "n": options.n_edges,
        },
    )
    return [(by_id[link_id], Edge(a, b)) for link_id, a, b in rows]


def read_text(atlas: Atlas, link: Link, edges: Sequence[Edge], options: AblationOptions) -> Text:
    """The contexts of each edge, drawn from those where its tokens are."""
    con = atlas.cursor()
    a, b = zip(*edges, strict=True)
    found = con.execute(
        """
        with
        asked as (
            select unnest($a::bigint[]) as a, unnest($b::bigint[]) as b,
                unnest(range(len($a))) as edge
        ),
        joint as materialized (
            select asked.edge, upstream.token
            from asked
            join features as watched on watched.feature_id = asked.b
            join activations as upstream on upstream.feature_id = asked.a
            join activations as downstream
                on downstream.feature_id = asked.b and downstream.token = upstream.token
            where downstream.q > $least * watched.max_q
        )
        select distinct joint.edge, tokens.document_id, tokens.position // $context as place
        from joint join tokens using (token)
        order by all
        """,
        {"a": list(a), "b": list(b), "least": LEAST, "context": link.context},
    ).fetchnumpy()
    edge, document, place = (np.asarray(one, np.int64) for one in found.values())
    chosen = []
    bounds = np.searchsorted(edge, np.arange(len(edges) + 1))
    for number, (begin, end) in enumerate(itertools.pairwise(bounds.tolist())):
        rng = np.random.default_rng([options.seed, *edges[number]])
        n = min(options.contexts, end - begin)
        chosen.append(begin + np.sort(rng.choice(end - begin, n, replace=False)))
    at = np.concatenate(chosen)
    keys, of = np.unique(np.stack([document[at], place[at]], axis=1), axis=0, return_inverse=True)
    of_edge = np.split(of.reshape(-1), np.cumsum([len(one) for one in chosen])[:-1])
    least = dict(
        atlas.rows(
            "select feature_id, max_q from features where list_contains(?::bigint[], feature_id)",
            [list(b)],
        )
    )
    return Text(
        _windows(atlas, link, keys),
        of_edge,
        [LEAST * least[one] * link.scale_b for one in b],
    )


def _windows(atlas: Atlas, link: Link, keys: NDArray[np.int64]) -> list[NDArray[np.int32]]:
    """Token ids of the contexts (document, place in it), (n, 2) ascending."""
    rows = atlas.rows(
        """
        with wanted as (
            select unnest($documents::bigint[]) as document_id, unnest($places::bigint[]) as place
        )
        select list(tokens.token_id order by tokens.position)
        from tokens
        join wanted
            on wanted.document_id = tokens.document_id
            and wanted.place = tokens.position // $context
        join models on models.name = $model
        join tokenizers on tokenizers.tokenizer_id = models.tokenizer_id
        where tokens.token >= tokenizers.first_token
        and tokens.token < tokenizers.first_token + tokenizers.n_tokens
        group by wanted.document_id, wanted.place
        order by wanted.document_id, wanted.place
        """,
        {
            "documents": keys[:, 0].tolist(),
            "places": keys[:, 1].tolist(),
            "context": link.context,
            "model": link.model,
        },
    )
    return [np.array(ids, np.int32) for (ids,) in rows]
