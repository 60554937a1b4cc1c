"""/api/sentence: which features are active on a sentence that the reader types.

The model is loaded from where the atlas has it from, without the network, and its SAEs from the
atlas; both stay loaded for the next sentence. PyTorch is imported only here and only then.
"""

from __future__ import annotations

import itertools
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atlas.errors import BadInput, NotFound
from atlas.web.given import Given
from atlas.web.labels import labels_of
from atlas.web.measures import asked_measure
from atlas.web.places import Place, PlacedSae, places
from atlas.web.viewed import Connection, Viewed, columns_of, records

if TYPE_CHECKING:
    from atlas.ingest.models.language_model import LanguageModel
    from atlas.ingest.models.sites import Placed
    from atlas.ingest.text.tokens import Encoded

MAX_CHARACTERS = 2000

_MOST_TOKENS = 256
_MOST_FEATURES = 30
"""Of each layer, those nearest to their largest activation on the corpus."""


def runnable(atlas: Connection) -> list[str]:
    """Names of the models that may be there to be loaded: from a folder, or of the hub."""
    return [
        name
        for name, source in atlas.rows("select name, source from models order by model_id")
        if Path(source).expanduser().is_dir() or not Path(source).is_absolute()
    ]


def sentence(viewed: Viewed, atlas: Connection, given: Given) -> dict[str, Any]:
    """The tokens of a text, each layer's most active features on them, and how these are linked.

    hook, variant: which of the model's SAEs; those of the most layers unless given.
    """
    name = given.text("model")
    text = given.text("text", MAX_CHARACTERS)
    measure, at_least = asked_measure(given)
    place = _place(viewed, atlas, name, given)
    loaded = viewed.keep("loaded", lambda _: _Loaded())
    encoded, found = loaded.run(viewed, atlas, place, text)
    shown = [
        _strongest(atlas, sae, activations)
        for sae, activations in zip(place.saes, found, strict=True)
    ]
    labels = labels_of(viewed, atlas, place)
    return {
        "model": name,
        "hook": place.hook,
        "variant": place.variant,
        "text": text,
        "tokens": _texts(text, encoded),
        "layers": [
            {"layer": sae.layer, "sae": sae.name, "features": _described(sae, ranked, labels)}
            for sae, ranked in zip(place.saes, shown, strict=True)
        ],
        "edges": _edges(atlas, place, [list(one) for one in shown], measure, at_least),
        "measure": measure,
        "at_least": at_least,
    }


@dataclass(frozen=True)
class _Active:
    """A feature on the text."""

    density: float
    max_activation: float
    """On the reference corpus."""
    activations: list[tuple[int, float]]
    """(index of the token, activation)"""


@dataclass(frozen=True)
class _Activations:
    """One SAE's activations on the tokens of a text, as the atlas would store them."""

    index: NDArray[np.int64]
    """(m,) which feature."""
    token: NDArray[np.int64]
    value: NDArray[np.float64]


class _Loaded:
    """The model that was asked for last, with its SAEs; one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._place: Place | None = None
        self._model: LanguageModel | None = None
        self._saes: list[Placed] = []

    def run(
        self, viewed: Viewed, atlas: Connection, place: Place, text: str
    ) -> tuple[Encoded, list[_Activations]]:
        """The tokens of a text and the activations of each of the place's SAEs on them."""
        with self._lock:
            if self._place != place or self._model is None:
                self._place, self._model, self._saes = None, None, []
                self._model, self._saes = _load(viewed, atlas, place)
                self._place = place
            return _run(atlas, self._model, place, self._saes, text)


def _place(viewed: Viewed, atlas: Connection, model: str, given: Given) -> Place:
    """The SAEs to run: of the hook and variant asked for, or of the most layers."""
    mine = [one for one in places(viewed, atlas) if one.model == model]
    if not mine:
        raise NotFound(f"{viewed.path} has no SAEs of a model {model!r}.")
    hook, variant = given.optional("hook"), given.optional("variant")
    if hook is None:
        return max(mine, key=lambda one: (len(one.links), len(one.saes), one.variant is None))
    for one in mine:
        if (one.hook, one.variant) == (hook, variant):
            return one
    raise NotFound(f"{viewed.path} has no SAEs of {model} at {hook} {variant or ''}".rstrip() + ".")


def _load(viewed: Viewed, atlas: Connection, place: Place) -> tuple[LanguageModel, list[Placed]]:
    # The hub's client reads this once, when it is imported: a page must not make it download.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from atlas.ingest.known import known_models, load_known, load_placed

    model = load_known(place.model, known_models(atlas)[place.model], "auto", viewed.path)
    placed = (load_placed(atlas, sae.name) for sae in place.saes)
    return model, [(sites, weights.to(model.device)) for sites, weights in placed]


def _run(
    atlas: Connection, model: LanguageModel, place: Place, saes: list[Placed], text: str
) -> tuple[Encoded, list[_Activations]]:
    from atlas.ingest.models.sites import all_points
    from atlas.ingest.text.contexts import batches, contexts
    from atlas.ingest.text.tokens import tokenize_documents

    scales = dict(atlas.rows("select name, scale from saes"))
    ((context,),) = atlas.rows(
        "select min(context) from saes where list_contains(?::varchar[], name)",
        [[sae.name for sae in place.saes]],
    )
    (encoded,) = tokenize_documents(model.tokenizer, [text])
    most = min(context or _MOST_TOKENS, _MOST_TOKENS)
    if not 0 < len(encoded.ids) <= most:
        raise BadInput(
            f"The text has {len(encoded.ids)} tokens for {model.name}; give 1 to {most}, as many "
            "as its SAEs were measured on at once."
        )
    (batch,) = batches(contexts([encoded.ids], most, model.bos_id), most + 1, model.pad_id)
    points = all_points(sites for sites, _ in saes)
    activations = dict(zip(points, model.run(batch, points), strict=True))
    found = []
    for sae, (sites, weights) in zip(place.saes, saes, strict=True):
        code = weights.encode(sites.gather(activations)[0])
        lengths = np.diff(code.offset.cpu().numpy())
        # Rounded as the atlas stores them, so that a text of the corpus gives what is stored.
        scale = scales[sae.name]
        q = np.rint(code.value.cpu().numpy().astype(np.float64) / scale)
        there = q > 0
        found.append(
            _Activations(
                code.index.cpu().numpy().astype(np.int64)[there],
                np.repeat(np.arange(len(lengths)), lengths)[there],
                q[there] * scale,
            )
        )
    return encoded, found


def _texts(text: str, encoded: Encoded) -> list[str]:
    """What each token adds to the text, so that together they are the text.

    Of tokens that share a character the last has it: Llama's first "▁" shares the first letter
    with the letter's own token.
    """
    if not len(encoded.ids):
        return []
    following = np.append(encoded.start[1:], len(text))
    ends = np.minimum.accumulate(np.minimum(encoded.end, following)[::-1])[::-1].tolist()
    return [text[begin:end] for begin, end in itertools.pairwise([0, *ends[:-1], len(text)])]


def _strongest(atlas: Connection, sae: PlacedSae, found: _Activations) -> dict[int, _Active]:
    """The most active features of one SAE by id, the most active first."""
    index = np.unique(found.index)
    if not len(index):
        return {}
    ids = (index + sae.first_feature_id).tolist()
    known = columns_of(
        atlas,
        """
        select density, max_q * scale as most from features join saes using (sae_id)
        where list_contains(?::bigint[], feature_id) order by feature_id
        """,
        [ids],
    )
    peak = np.zeros(len(index))
    np.maximum.at(peak, np.searchsorted(index, found.index), found.value)
    # A feature that was dead on the corpus has no largest activation to compare with.
    share = np.divide(peak, known["most"], out=np.ones(len(peak)), where=known["most"] > 0)
    ranked = {}
    for i in np.lexsort((index, -peak, -share))[:_MOST_FEATURES].tolist():
        mine = found.index == index[i]
        tokens = found.token[mine]
        order = np.argsort(tokens)
        values = found.value[mine][order].tolist()
        ranked[ids[i]] = _Active(
            float(known["density"][i]),
            float(known["most"][i]),
            list(zip(tokens[order].tolist(), values, strict=True)),
        )
    return ranked


def _described(
    sae: PlacedSae, ranked: dict[int, _Active], labels: dict[int, tuple[str | None, float | None]]
) -> list[dict[str, Any]]:
    return [
        {
            "feature": f"{sae.name}/{feature_id - sae.first_feature_id}",
            "feature_id": feature_id,
            "label": labels.get(feature_id, (None, None))[0],
            "density": one.density,
            "max_activation": one.max_activation,
            "activations": one.activations,
        }
        for feature_id, one in ranked.items()
    ]


def _edges(
    atlas: Connection, place: Place, shown: list[list[int]], measure: str, at_least: float
) -> list[dict[str, Any]]:
    """The stored edges between the features shown of neighbouring layers."""
    found = []
    for link in place.links:
        found += records(
            atlas,
            f"""
            select feature_a as a, feature_b as b, {measure} as value from edges
            where link_id = $link and {measure} >= $at_least
            and list_contains($a::bigint[], feature_id_a)
            and list_contains($b::bigint[], feature_id_b)
            order by value desc, feature_id_a, feature_id_b
            """,
            {
                "link": link.link_id,
                "at_least": at_least,
                "a": shown[link.lower],
                "b": shown[link.lower + 1],
            },
        )
    return found
