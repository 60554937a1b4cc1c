"""Everything an atlas holds of one feature, as one object: `card(atlas, feature)`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from atlas.store import Atlas

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
"""Probabilities of `features.quantiles_q`."""


@dataclass(frozen=True)
class Written:
    """A hook point that the feature writes."""

    site: str
    """`model/layer-hook`."""
    share: float | None
    """Of the sum of the norms of the decoder direction's parts; None if all of them are zero."""


@dataclass(frozen=True)
class Label:
    """One explanation of the feature."""

    text: str
    method: str
    explainer: str
    score: float | None
    scored_by: str | None


@dataclass(frozen=True)
class TokenEffect:
    """A token that the feature's decoder direction makes more or less likely."""

    text: str
    effect: float
    """Logit lens, centred over the vocabulary."""


@dataclass(frozen=True)
class TopWord:
    """A word form on which the feature is active."""

    form: str
    n_active: int
    """Occurrences on which it is active."""
    n_words: int
    """Occurrences on the reference corpus."""
    mean_activation: float
    """Over the occurrences on which it is active, in the SAE's units."""


@dataclass(frozen=True)
class Piece:
    """A stretch of text under one activation."""

    text: str
    activation: float


@dataclass(frozen=True)
class Context:
    """A stretch of the corpus on which the feature fires."""

    rank: int
    stratum: str
    """'top', or 'q5' (strongest fifth of the active tokens) to 'q1'."""
    split: str
    """'explain' or 'score'."""
    activation: float
    """Where it peaks."""
    marked: str
    """The text on one line, with the token of the peak between « and »."""
    pieces: tuple[Piece, ...]
    """The same text with the activation of each of its tokens."""
    document_id: int
    source: str


@dataclass(frozen=True)
class Neighbour:
    """The nearest feature in another SAE."""

    feature: str
    score: float
    """Pearson's r of the activations over words."""
    label: str | None


@dataclass(frozen=True)
class FeatureCard:
    """A feature with its statistics on the reference corpus; activations in the SAE's units."""

    name: str
    feature_id: int
    sae: str
    model: str
    layer: int
    hook: str
    index: int
    reads: tuple[str, ...]
    """Hook points, `model/layer-hook`, whose activations the SAE reads side by side."""
    writes: tuple[Written, ...]
    """Those that it reconstructs: the same in an SAE, others in a transcoder."""
    alive: bool
    density: float
    """Share of the corpus's tokens on which it is active."""
    n_active: int
    """Number of these tokens."""
    mean_activation: float | None
    """Over these tokens; None for a dead feature."""
    max_activation: float
    quantiles: dict[str, float]
    """Of the activations of these tokens: '0.5' is the median; empty for a dead feature."""
    labels: tuple[Label, ...]
    """Best score first."""
    promotes: tuple[TokenEffect, ...]
    suppresses: tuple[TokenEffect, ...]
    top_words: tuple[TopWord, ...]
    contexts: tuple[Context, ...]
    neighbours: tuple[Neighbour, ...]
    """One per other SAE if asked for, best first."""

    @property
    def label(self) -> str | None:
        """The label with the best score, or None."""
        return self.labels[0].text if self.labels else None


def card(
    atlas: Atlas, feature: str | int, *, contexts: int = 10, tops: int = 10, similar: bool = False
) -> FeatureCard:
    """The card of a feature given by name or id; NotFound if the atlas does not hold it.

    contexts: how many contexts; tops: how many tokens and words; similar: whether to look for the
    nearest feature in every other SAE, which builds the FAISS index if there is none yet.
    """
    feature_id = atlas.feature_id(feature)
    row = atlas.row(
        """
        select feature_names.feature, feature_names.sae, model, feature_names.layer,
            feature_names.hook, feature_names.index, alive, density, n_active, sum_q, max_q,
            quantiles_q, scale
        from features
        join feature_names using (feature_id)
        join saes on saes.sae_id = features.sae_id
        where feature_id = ?
        """,
        [feature_id],
    )
    assert row is not None  # feature_id() has looked
    name, sae, model, layer, hook, index, alive, density, n_active, sum_q, max_q, quantiles = row[
        :-1
    ]
    scale = row[-1]
    reads, writes = _sites(atlas, feature_id)
    return FeatureCard(
        name=name,
        feature_id=feature_id,
        sae=sae,
        model=model,
        layer=layer,
        hook=hook,
        index=index,
        reads=reads,
        writes=writes,
        alive=alive,
        density=density,
        n_active=n_active,
        mean_activation=sum_q * scale / n_active if n_active else None,
        max_activation=max_q * scale,
        quantiles={f"{p:g}": q * scale for p, q in zip(QUANTILES, quantiles, strict=False)},
        labels=_labels(atlas, feature_id),
        promotes=_effects(atlas, feature_id, tops, 1),
        suppresses=_effects(atlas, feature_id, tops, -1),
        top_words=_top_words(atlas, feature_id, tops, scale),
        contexts=_contexts(atlas, feature_id, contexts),
        neighbours=_neighbours(atlas, feature_id, sae) if similar else (),
    )


def _sites(atlas: Atlas, feature_id: int) -> tuple[tuple[str, ...], tuple[Written, ...]]:
    """What the feature's SAE reads, and what it writes."""
    if atlas.meta("format") == "1":  # not opened for writing since: every SAE has one hook point
        ((site,),) = atlas.rows(
            "select model || '/' || layer || '-' || hook from feature_names where feature_id = ?",
            [feature_id],
        )
        return (site,), (Written(site, 1.0),)
    reads = atlas.rows(
        """
        select site from _sites join features using (sae_id)
        where feature_id = ? and role = 'input' order by place
        """,
        [feature_id],
    )
    writes = atlas.rows("select site, share from decoder_norms(?)", [feature_id])
    return tuple(site for (site,) in reads), tuple(Written(*row) for row in writes)


def _labels(atlas: Atlas, feature_id: int) -> tuple[Label, ...]:
    found = atlas.rows(
        """
        select text, method, explainer, score, scored_by from labels where feature_id = ?
        order by score desc nulls last, run_id desc, method, explainer, text
        """,
        [feature_id],
    )
    return tuple(Label(*row) for row in found)


def _effects(atlas: Atlas, feature_id: int, n: int, sign: int) -> tuple[TokenEffect, ...]:
    """The `n` most promoted tokens for `sign` 1, the most suppressed ones for -1."""
    found = atlas.rows(
        """
        select vocabulary.text, effect::varchar::double -- without digits that FLOAT never had
        from token_effects
        join features using (feature_id)
        join saes using (sae_id)
        join models using (model_id)
        join vocabulary using (tokenizer_id, token_id)
        where feature_id = ? and rank * ? between 1 and ?
        order by abs(rank)
        """,
        [feature_id, sign, n],
    )
    return tuple(TokenEffect(*row) for row in found)


def _top_words(atlas: Atlas, feature_id: int, n: int, scale: float) -> tuple[TopWord, ...]:
    found = atlas.rows(
        """
        select form, n_active, n_words, sum_q / n_active * ?::double from word_stats
        where feature_id = ? order by sum_q desc, form limit ?
        """,
        [scale, feature_id, n],
    )
    return tuple(TopWord(*row) for row in found)


def _contexts(atlas: Atlas, feature_id: int, n: int) -> tuple[Context, ...]:
    tokens = atlas.rows(
        "select rank, gap, text, activation from context_tokens(?, n := ?)", [feature_id, n]
    )
    pieces = {
        rank: tuple(_merged(group)) for rank, group in itertools.groupby(tokens, lambda t: t[0])
    }
    found = atlas.rows(
        """
        select rank, stratum, split, activation, text, document_id, source
        from contexts(?, n := ?) order by rank
        """,
        [feature_id, n],
    )
    return tuple(
        Context(rank, stratum, split, activation, text, pieces[rank], document_id, source)
        for rank, stratum, split, activation, text, document_id, source in found
    )


def _merged(tokens: Iterator[tuple[int, str, str, float]]) -> Iterator[Piece]:
    """Pieces of one context; tokens that share a character are one piece, under their maximum."""
    text, activation = "", 0.0
    for _, gap, own, value in tokens:
        if not own:
            activation = max(activation, value)
            continue
        if text:
            yield Piece(text, activation)
        if gap:
            yield Piece(gap, 0.0)
        text, activation = own, value
    if text:
        yield Piece(text, activation)


def _neighbours(atlas: Atlas, feature_id: int, sae: str) -> tuple[Neighbour, ...]:
    found = atlas.rows(
        """
        select nearest.feature, nearest.score, label
        from saes, similar(?, k := 1, within := saes.name) as nearest
        left join best_labels using (feature_id)
        where saes.name != ?
        order by nearest.score desc, nearest.feature_id
        """,
        [feature_id, sae],
    )
    return tuple(Neighbour(*row) for row in found)
