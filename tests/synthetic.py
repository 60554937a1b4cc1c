"""A small atlas with planted structure, built without any language model.

Three models read one made-up corpus: `toy-a` (two SAEs) and `toy-b` (one) through the same
tokenizer of four-letter pieces, `toy-c` (one) through single characters. Every live feature detects
a *concept*, a handful of word forms; feature `i` of SAE `s` detects concept `concepts(s)[i]`, so
each concept has one feature per SAE, and the words they fire on agree up to seeded noise. All
tables follow the definitions in sql/schema/001_base.sql by the plainest NumPy there is, which makes
the atlas a reference for whatever computes the same tables fast.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import atlas
from tests.synthetic_lineage import add_ablations, add_communities
from tests.synthetic_links import add_links
from tests.synthetic_pairs import add_pairings

FORMS = """
    the a and . , to was she he said it in her his with on big little dog cat Lily Tom mom dad
    happy sad play park ball tree house water red blue sun moon bird fish boat train car school
    friend hello café naïve ! ? " Ünder 日 本 🎈 don't time day night forest story king queen
    river stone cold warm ran jumped sang slept found lost opened closed garden apple
""".split()  # noqa: SIM905 -- a column of quoted words reads worse
SCALE = 2.0**-10
SIGNATURE = 512
PROBABILITIES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
EXAMPLES_TOP = 12
EXAMPLES_STRATUM = 2
STATS_KEPT = 8
EFFECTS_KEPT = 5
DEAD = 3
"""The last features of every SAE never fire."""


@dataclass(frozen=True)
class Site:
    """One SAE to build; of one hook point, as wide as the model, unless told otherwise."""

    model: str
    layer: int
    tokenizer: str
    d_model: int
    hook: str = "resid_post"
    variant: str | None = None
    reads: tuple[tuple[int, str, int], ...] = ()
    """(layer, hook, width) of every hook point that a transcoder or crosscoder reads."""
    writes: tuple[tuple[int, str, int], ...] = ()

    @property
    def name(self) -> str:
        variant = f"-{self.variant}" if self.variant else ""
        return f"{self.model}/{self.layer}-{self.hook}{variant}"

    @property
    def points(self) -> dict[str, tuple[tuple[int, str, int], ...]]:
        own = ((self.layer, self.hook, self.d_model),)
        return {"input": self.reads or own, "output": self.writes or own}

    def width(self, role: str) -> int:
        return sum(width for *_, width in self.points[role])


SITES = (
    Site("toy-a", 0, "pieces", 16),
    Site("toy-a", 1, "pieces", 16),
    Site("toy-b", 0, "pieces", 16),
    Site("toy-c", 2, "characters", 12),
)
SAES = tuple(site.name for site in SITES)


def concepts(sae: int, width: int = 24, seed: int = 0) -> np.ndarray:
    """Concept that each feature of the `sae`-th SAE detects, int (width,); -1 for dead ones."""
    live = width - DEAD
    order = np.random.default_rng([seed, 1, sae]).permutation(live)
    return np.concatenate([order, np.full(DEAD, -1)])


def build_synthetic(
    path: str | Path, seed: int = 0, documents: int = 40, width: int = 24, forms: int = 0,
    sites: tuple[Site, ...] = SITES,
) -> Path:  # fmt: skip
    """Create the atlas `path` and return it.

    documents: each of about 60 words; width: features per SAE, the last `DEAD` of them dead;
    forms: distinct word forms, at least those of `FORMS`.
    """
    path = Path(path)
    tables = build_tables(seed, documents, width, forms, sites)
    with atlas.create(path) as store:
        con = store.cursor()
        con.begin()
        for name, table in tables.items():
            con.register("incoming", table)
            con.execute(f"insert into {name} by name from incoming")
            con.unregister("incoming")
        con.commit()
        con.close()
        with store.transaction():
            store.advance_stamp(str((seed, documents, width, forms, sites)))
    return path


def build_tables(
    seed: int, documents: int, width: int, forms: int, sites: tuple[Site, ...]
) -> dict[str, pa.Table]:
    """Every table but `meta`, keyed by name."""
    rng = np.random.default_rng([seed, 0])
    vocabulary = _forms(max(forms, len(FORMS)), rng)
    texts, words = _corpus(vocabulary, documents, rng)
    streams = {name: _tokenize(name, texts, words) for name in ("pieces", "characters")}
    patterns = _patterns(vocabulary, words, width - DEAD, rng)
    columns: dict[str, list[dict[str, Any]]] = {}

    def add(table: str, /, **values: Any) -> None:
        columns.setdefault(table, []).append(values)

    _add_corpus(add, texts, words)
    first_token = 0
    offsets = {}
    for tokenizer_id, (name, stream) in enumerate(streams.items()):
        offsets[name] = first_token
        _add_tokenizer(add, tokenizer_id, name, stream, first_token)
        first_token += len(stream["id"])
    model_ids = {site.model: n for n, site in enumerate({s.model: s for s in sites}.values())}
    for site in {s.model: s for s in sites}.values():
        add(
            "models", model_id=model_ids[site.model], name=site.model, source="synthetic",
            revision=None, sha256=_sha(site.model), model_type="toy", n_layers=4,
            d_model=site.d_model, n_parameters=1000, is_causal=True, prepends_bos=True,
            block_path="blocks", tokenizer_id=list(streams).index(site.tokenizer), run_id=0,
        )  # fmt: skip
    directions = rng.standard_normal((width, 64))
    for sae_id, site in enumerate(sites):
        noise = np.random.default_rng([seed, 2, sae_id])
        _add_sae(
            add, sae_id, model_ids[site.model], site, width, words, streams[site.tokenizer],
            offsets[site.tokenizer], patterns, concepts(sae_id, width, seed), directions, noise,
        )  # fmt: skip
    add_pairings(add, columns, len(words["start"]), seed)
    add_links(add, columns, len(words["start"]))
    planted = [concepts(sae_id, width, seed) for sae_id in range(len(sites))]
    add_communities(add, columns, planted)
    add_ablations(add, columns, planted)
    add(
        "runs", run_id=0, command="synthetic", plan=_sha(str((seed, documents, width))),
        config=json.dumps({"documents": documents, "width": width}), circumstances="{}", seed=seed,
        started_at=np.datetime64("2026-01-01T00:00:00", "us"),
        ended_at=np.datetime64("2026-01-01T00:01:00", "us"), status="done",
    )  # fmt: skip
    return {
        name: pa.concat_tables(map(_table, rows), promote_options="default")
        for name, rows in columns.items()
    }


def _table(values: dict[str, Any]) -> pa.Table:
    """One pyarrow table of equally long columns, scalars being columns of one row."""
    arrays = {}
    for name, value in values.items():
        if isinstance(value, np.ndarray) and value.ndim == 2:
            flat = pa.array(value.ravel())
            value = pa.FixedSizeListArray.from_arrays(flat, value.shape[1])
            if name != "signature":
                value = value.cast(pa.list_(flat.type))
        elif isinstance(value, np.ndarray | list):
            value = pa.array(value)
        elif isinstance(value, pa.Array):
            pass
        else:
            value = pa.array([value])
        arrays[name] = value
    return pa.table(arrays)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _forms(count: int, rng: np.random.Generator) -> list[str]:
    found = dict.fromkeys(FORMS)
    syllables = [c + v for c in "bdfgklmnprstv" for v in "aeiou"]
    while len(found) < count:
        found["".join(rng.choice(syllables, rng.integers(2, 5)))] = None
    return list(found)


def _corpus(
    vocabulary: list[str], documents: int, rng: np.random.Generator
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Texts and their words: document, start, end (with the space that follows), form."""
    weight = 1 / np.arange(4, len(vocabulary) + 4)
    weight /= weight.sum()
    texts, document, start, end, form = [], [], [], [], []
    for number in range(documents):
        text = ""
        if number % 7 == 3:  # white space that opens a document is a word of its own
            text, parts = "\n ", []
            document.append(number), start.append(0), end.append(2), form.append("")
        parts = rng.choice(len(vocabulary), int(rng.integers(45, 75)), p=weight)
        spaces = rng.choice([" ", " ", " ", " ", " ", "\n", "  "], len(parts))
        for place, part in enumerate(parts):
            one = vocabulary[part]
            following = vocabulary[parts[place + 1]] if place + 1 < len(parts) else ""
            glued = following in {".", ",", "!", "?"} and one[-1].isalpha()
            space = "" if glued or not following else spaces[place]
            document.append(number)
            start.append(len(text))
            text += one + space
            end.append(len(text))
            form.append(one)
        texts.append(text)
    return texts, {
        "document": np.array(document, "i8"),
        "start": np.array(start, "i4"),
        "end": np.array(end, "i4"),
        "form": np.array(form, object),
    }


def _tokenize(name: str, texts: list[str], words: dict[str, np.ndarray]) -> dict[str, Any]:
    """Tokens of all texts: single characters, or pieces of up to four with the space before."""
    ids: dict[str, int] = {}
    document, position, token_id, start, end = [], [], [], [], []
    for number, text in enumerate(texts):
        at, place = 0, 0
        while at < len(text):
            stop = at + 1
            if name == "pieces":
                while stop < len(text) and stop < at + 4 and text[stop].isalnum():
                    stop += 1
            piece = text[at:stop]
            document.append(number), position.append(place), start.append(at), end.append(stop)
            token_id.append(ids.setdefault(piece, len(ids)))
            at, place = stop, place + 1
    # The words cover every document, so the last word starting at or before a character holds it.
    key = words["document"] * (1 << 32) + words["start"]
    last = np.array(document, "i8") * (1 << 32) + np.array(end, "i8") - 1
    return {
        "texts": list(ids),
        "document": np.array(document, "i8"),
        "position": np.array(position, "i4"),
        "id": np.array(token_id, "i4"),
        "start": np.array(start, "i4"),
        "end": np.array(end, "i4"),
        "word": np.searchsorted(key, last, side="right") - 1,
    }


def _patterns(
    vocabulary: list[str], words: dict[str, np.ndarray], count: int, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(word, strength) of each concept: the occurrences of its forms, unequally strong."""
    occurrences: dict[str, list[int]] = {}
    for word, form in enumerate(words["form"]):
        occurrences.setdefault(form, []).append(word)
    found = []
    for concept in range(count):
        chosen = {vocabulary[concept % len(vocabulary)]}
        chosen |= {vocabulary[i] for i in rng.integers(0, len(vocabulary), 2)}
        places, strengths = [], []
        for rank, form in enumerate(sorted(chosen)):
            here = np.array(occurrences.get(form, []), "i8")
            places.append(here)
            strengths.append((3.0 - 0.7 * rank) * np.exp(0.3 * rng.standard_normal(len(here))))
        word, strength = np.concatenate(places), np.concatenate(strengths)
        order = np.argsort(word)
        found.append((word[order], strength[order]))
    return found


def _add_corpus(add: Any, texts: list[str], words: dict[str, np.ndarray]) -> None:
    add(
        "corpora", corpus_id=0, name="made-up", source="synthetic", licence="CC0-1.0",
        sha256=_sha("".join(text + "\0" for text in texts)), n_documents=len(texts),
        n_characters=sum(map(len, texts)), n_words=len(words["start"]), run_id=0,
    )  # fmt: skip
    add(
        "documents", document_id=np.arange(len(texts)), corpus_id=np.zeros(len(texts), "i4"),
        source=[f"synthetic#{n}" for n in range(len(texts))], text=texts,
    )  # fmt: skip
    add(
        "words", word=np.arange(len(words["start"])), document_id=words["document"],
        start_char=words["start"], end_char=words["end"], form=list(words["form"]),
    )  # fmt: skip


def _add_tokenizer(
    add: Any, tokenizer_id: int, name: str, stream: dict[str, Any], first_token: int
) -> None:
    n_vocab, n_tokens = len(stream["texts"]) + 1, len(stream["id"])
    add(
        "tokenizers", tokenizer_id=tokenizer_id, name=name, sha256=_sha(name), n_vocab=n_vocab,
        first_token=first_token, n_tokens=n_tokens, run_id=0,
    )  # fmt: skip
    add(
        "vocabulary", tokenizer_id=np.full(n_vocab, tokenizer_id, "i4"),
        token_id=np.arange(n_vocab, dtype="i4"), text=[*stream["texts"], "<s>"],
        n_tokens=np.bincount(stream["id"], minlength=n_vocab),
    )  # fmt: skip
    add(
        "tokens", token=first_token + np.arange(n_tokens), document_id=stream["document"],
        position=stream["position"], token_id=stream["id"], start_char=stream["start"],
        end_char=stream["end"], word=stream["word"],
    )  # fmt: skip


def _add_sae(
    add: Any, sae_id: int, model_id: int, site: Site, width: int, words: dict[str, np.ndarray],
    stream: dict[str, Any], first_token: int, patterns: list[tuple[np.ndarray, np.ndarray]],
    concept: np.ndarray, directions: np.ndarray, rng: np.random.Generator,
) -> None:  # fmt: skip
    n_tokens, n_words = len(stream["id"]), len(words["start"])
    first = sae_id * width
    last_token = np.full(n_words, -1, "i8")
    last_token[stream["word"]] = np.arange(n_tokens)  # the last of equal indices stays
    feature, token, strength = [], [], []
    for index in range(width - DEAD):
        word, base = patterns[concept[index]]
        kept = (rng.random(len(word)) > 0.05) & (last_token[word] >= 0)
        word, base = word[kept], base[kept] * np.exp(0.15 * rng.standard_normal(kept.sum()))
        stray = rng.choice(n_tokens, max(2, n_tokens // 500), replace=False)
        row = np.zeros(n_tokens)
        row[stray] = 0.2 * rng.random(len(stray))
        row[last_token[word]] = base
        # The token before carries a weaker echo, so that a word's maximum differs from its sum.
        before = np.maximum(last_token[word] - 1, 0)
        row[before] = np.maximum(row[before], 0.3 * base)
        q = np.round(row / SCALE).astype("i4")
        (at,) = q.nonzero()
        feature.append(np.full(len(at), index)), token.append(at), strength.append(q[at])
    feature_, token_, q_ = map(np.concatenate, (feature, token, strength))
    add(
        "saes", sae_id=sae_id, model_id=model_id, name=site.name, layer=site.layer, hook=site.hook,
        variant=site.variant, architecture="topk", activation="topk", d_in=site.width("input"),
        d_sae=width, d_out=site.width("output"), k=4, first_feature_id=first, input_scale=1.25,
        output_scale=1.25, normalize="none", quality=None, conventions=None,
        pre_bias=np.zeros((1, site.width("input")), "f4"),
        b_dec=np.zeros((1, site.width("output")), "f4"), scale=SCALE, context=32, source="trained",
        sha256=_sha(site.name), train_tokens=100_000, held_out=True, run_id=0,
    )  # fmt: skip
    for role, points in site.points.items():
        widths = np.array([one[2] for one in points], "i4")
        add(
            "sae_sites", sae_id=np.full(len(points), sae_id, "i4"), role=[role] * len(points),
            place=np.arange(len(points), dtype="i4"),
            model_id=np.full(len(points), model_id, "i4"),
            layer=np.array([one[0] for one in points], "i4"), hook=[one[1] for one in points],
            first_column=(np.cumsum(widths) - widths).astype("i4"), width=widths,
        )  # fmt: skip
    add(
        "activations", feature_id=first + feature_, token=first_token + token_, q=q_,
    )  # fmt: skip
    signatures = _add_statistics(
        add, sae_id, first, width, words, stream, first_token, feature_, token_, q_
    )
    max_cosine = _add_directions(add, first, site, stream, directions[concept], signatures, rng)
    density = np.bincount(feature_, minlength=width) / n_tokens
    metrics = {
        "l0": len(q_) / n_tokens, "dead_share": (density == 0).mean(),
        "dense_share": (density > 0.1).mean(), "explained_variance": 0.8, "fvu": 1 - 0.8,
        "ce": 2.0, "ce_spliced": 2.2, "ce_zero": 5.0, "ce_recovered": (5.0 - 2.2) / (5.0 - 2.0),
        "kl": 0.25, "decoder_max_cosine": max_cosine.mean(),
        "decoder_near_share": (max_cosine > 0.7).mean(), **_add_functions(add, sae_id),
    }  # fmt: skip
    add(
        "sae_metrics", sae_id=np.full(len(metrics), sae_id, "i4"), metric=list(metrics),
        value=np.array(list(metrics.values()), "f8"), run_id=np.zeros(len(metrics), "i4"),
        version=np.ones(len(metrics), "i4"),
    )  # fmt: skip


def _add_functions(add: Any, sae_id: int) -> dict[str, float]:
    """Add made-up probes and absorption; return the metrics that they come to."""
    accuracy = np.array([[0.7, 0.8], [0.6, 0.9]]) - 0.01 * sae_id
    sizes, properties = (1, 5), ("capital", "first_of_word")
    for i, property in enumerate(properties):
        for j, k in enumerate(sizes):
            add(
                "probes", sae_id=np.int32(sae_id), property=property, k=np.int32(k),
                features=pa.array([list(range(i, i + k))], pa.list_(pa.int32())), n_tokens=1000,
                n_positive=100, balanced_accuracy=accuracy[i, j], f1=0.5, auc=0.75,
            )  # fmt: skip
    for letter, main, absorbers in (("a", [3], [4]), ("s", [5, 6], [])):
        add(
            "absorptions", sae_id=np.int32(sae_id), letter=letter, probe_f1=0.9,
            main=pa.array([main], pa.list_(pa.int32())), main_f1=0.8, n_words=10,
            full_share=0.2 * len(absorbers), fraction=0.3,
            absorbers=pa.array([absorbers], pa.list_(pa.int32())),
        )  # fmt: skip
    return {f"sparse_probing_k{k}": accuracy[:, j].mean() for j, k in enumerate(sizes)} | {
        "absorption_full": 0.1, "absorption_fraction": 0.3, "absorption_splits": 1.5,
        "absorption_main_f1": 0.8, "absorption_letters": 2.0,
    }  # fmt: skip


def word_maxima(
    feature: np.ndarray, word: np.ndarray, q: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(feature, word, largest q) of every pair that occurs, ordered by feature, then word."""
    order = np.lexsort((word, feature))
    feature, word, q = feature[order], word[order], q[order]
    if not len(q):
        return feature, word, q
    begin = np.flatnonzero(np.r_[True, (np.diff(feature) != 0) | (np.diff(word) != 0)])
    return feature[begin], word[begin], np.maximum.reduceat(q, begin)


def _add_statistics(
    add: Any, sae_id: int, first: int, width: int, words: dict[str, np.ndarray],
    stream: dict[str, Any], first_token: int, feature: np.ndarray, token: np.ndarray,
    q: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Add every table that sums activations up; return the signatures, float32 (width, 512)."""

    def total(index: np.ndarray, weight: np.ndarray) -> np.ndarray:
        out = np.zeros(width, "i8")
        np.add.at(out, index, weight)
        return out

    q = q.astype("i8")
    n_tokens = len(stream["id"])
    word_feature, word, word_q = word_maxima(feature, stream["word"][token], q)
    n_active = np.bincount(feature, minlength=width)
    largest = np.zeros(width, "i4")
    np.maximum.at(largest, feature, q.astype("i4"))
    quantiles = [
        np.quantile(mine, PROBABILITIES, method="lower").astype("i4").tolist() if len(mine) else []
        for mine in np.split(q, np.cumsum(n_active)[:-1])
    ]
    add(
        "features", feature_id=first + np.arange(width), sae_id=np.full(width, sae_id, "i4"),
        index=np.arange(width, dtype="i4"), alive=n_active > 0, density=n_active / n_tokens,
        n_active=n_active, sum_q=total(feature, q), sum_q2=total(feature, q * q), max_q=largest,
        quantiles_q=pa.array(quantiles, pa.list_(pa.int32())),
        word_n_active=np.bincount(word_feature, minlength=width),
        word_sum_q=total(word_feature, word_q), word_sum_q2=total(word_feature, word_q * word_q),
    )  # fmt: skip
    lower = np.array([form.lower() for form in words["form"]], object)
    forms, code, n_words = np.unique(lower, return_inverse=True, return_counts=True)
    rng = np.random.default_rng(7)  # buckets and signs are the same for every SAE
    bucket, sign = rng.integers(0, SIGNATURE, len(lower)), rng.choice([-1.0, 1.0], len(lower))
    constant = np.bincount(bucket, sign, minlength=SIGNATURE)
    rows: dict[str, list[tuple[Any, ...]]] = {"word": [], "token": [], "example": []}
    signatures = np.zeros((width, SIGNATURE), "f4")
    for index in range(width):
        mine, here = feature == index, word_feature == index
        if not mine.any():
            continue
        sketch = np.bincount(bucket[word[here]], sign[word[here]] * word_q[here], SIGNATURE)
        sketch = sketch - constant * word_q[here].sum() / len(lower)
        signatures[index] = sketch / np.linalg.norm(sketch)
        _rank_kept(rows["word"], first + index, code[word[here]], word_q[here])
        _rank_kept(rows["token"], first + index, stream["id"][token[mine]], q[mine])
        _examples(rows["example"], first + index, token[mine], q[mine], stream)
    f, k, n, s, m = (np.array(c) for c in zip(*rows["token"], strict=True))
    add("token_stats", feature_id=f, token_id=k.astype("i4"), n_active=n, sum_q=s,
        max_q=m.astype("i4"))  # fmt: skip
    f, k, n, s, m = (np.array(c) for c in zip(*rows["word"], strict=True))
    add("word_stats", feature_id=f, form=list(forms[k]), n_active=n, n_words=n_words[k], sum_q=s,
        max_q=m.astype("i4"))  # fmt: skip
    f, rank, stratum, split, at, value, low, high = map(list, zip(*rows["example"], strict=True))
    add(
        "examples", feature_id=np.array(f), rank=np.array(rank, "i4"), stratum=stratum,
        split=split, token=first_token + np.array(at), q=np.array(value, "i4"),
        first_token=first_token + np.array(low), last_token=first_token + np.array(high),
    )  # fmt: skip
    best: dict[int, tuple[int, str]] = {}
    for f_, k_, _, s_, _ in rows["word"]:
        best[f_] = max(best.get(f_, (0, "")), (s_, forms[k_]))
    labelled = sorted(best)
    add(
        "labels", feature_id=np.array(labelled), text=[f"“{best[f_][1]}”" for f_ in labelled],
        method=["words"] * len(labelled), explainer=["synthetic"] * len(labelled),
        score=np.full(len(labelled), 0.5), scored_by=["f1 on the score split"] * len(labelled),
        run_id=np.zeros(len(labelled), "i4"),
    )  # fmt: skip
    return signatures


def _rank_kept(rows: list[Any], feature_id: int, key: np.ndarray, q: np.ndarray) -> None:
    found = []
    for one in np.unique(key):
        mine = q[key == one]
        found.append((feature_id, int(one), len(mine), int(mine.sum()), int(mine.max())))
    rows += sorted(found, key=lambda row: (-row[3], row[1]))[:STATS_KEPT]


def _examples(
    rows: list[Any], feature_id: int, token: np.ndarray, q: np.ndarray, stream: dict[str, Any]
) -> None:
    """The strongest `EXAMPLES_TOP` tokens, then a few from each fifth of the rest."""
    order = np.lexsort((token, -q))
    picked = [("top", at) for at in order[:EXAMPLES_TOP]]
    rest = order[EXAMPLES_TOP:]
    for number, fifth in enumerate(reversed(np.array_split(rest, 5)), start=1):
        picked += [(f"q{number}", at) for at in fifth[:EXAMPLES_STRATUM]]
    for rank, (stratum, at) in enumerate(picked, start=1):
        peak = int(token[at])
        document = stream["document"][peak]
        (window,) = np.nonzero(stream["document"][max(0, peak - 10) : peak + 6] == document)
        window = window + max(0, peak - 10)
        split = "score" if document % 2 else "explain"
        rows.append(
            (feature_id, rank, stratum, split, peak, int(q[at]), int(window[0]), int(window[-1]))
        )


def _add_directions(
    add: Any, first: int, site: Site, stream: dict[str, Any], directions: np.ndarray,
    signatures: np.ndarray, rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Decoders of one concept point the same way in every SAE of the same width, up to noise.

    Returns each one's largest cosine to another, (width,).
    """
    width, d_in, d_out = len(directions), site.width("input"), site.width("output")
    decoder = directions[:, :d_out] + 0.3 * rng.standard_normal((width, d_out))
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    max_cosine = (decoder @ decoder.T - 2 * np.eye(width)).max(axis=1).astype("f4")
    read = decoder if d_in == d_out else directions[:, :d_in]
    encoder = read + 0.05 * rng.standard_normal((width, d_in))
    add(
        "vectors", feature_id=first + np.arange(width), encoder=encoder.astype("f4"),
        encoder_bias=np.zeros(width, "f4"), threshold=pa.nulls(width, pa.float32()),
        decoder=decoder.astype("f4"), signature=signatures, max_cosine=max_cosine,
    )  # fmt: skip
    if not site.points["output"][-1][1].startswith(("resid", "mlp_out")):
        return max_cosine.astype("f8")
    unembedding = rng.standard_normal((site.d_model, len(stream["texts"])))
    effects = decoder[:, -site.d_model :] @ unembedding
    effects -= effects.mean(axis=1, keepdims=True)
    order = np.argsort(-effects, axis=1)
    ranks = np.r_[np.arange(1, EFFECTS_KEPT + 1), -np.arange(1, EFFECTS_KEPT + 1)].astype("i4")
    picked = np.hstack([order[:, :EFFECTS_KEPT], order[:, ::-1][:, :EFFECTS_KEPT]])
    add(
        "token_effects", feature_id=np.repeat(first + np.arange(width), len(ranks)),
        token_id=picked.ravel().astype("i4"), rank=np.tile(ranks, width),
        effect=np.take_along_axis(effects, picked, axis=1).ravel().astype("f4"),
    )  # fmt: skip
    return max_cosine.astype("f8")
