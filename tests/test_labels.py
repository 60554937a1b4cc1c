"""First labels: planted properties are found and said, and scores are honest."""

from __future__ import annotations

import numpy as np
import pytest

from atlas.ingest.describing.analyze import MeasuredCorpus
from atlas.ingest.describing.labels import Label
from atlas.ingest.describing.statistics import word_entries
from tests.measured import block_of, make_corpus

NAMES = ["Lily", "Tom", "Sam"]
THINGS = ["dog", "puppy", "cat", "ball", "tree", "house", "river", "singer"]
DOINGS = [
    "walking",
    "jumping",
    "running",
    "reading",
    "eating",
    "playing",
    "looking",
    "talking",
    "sleeping",
    "hiding",
]


def make_texts(n_documents: int = 400) -> list[str]:
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(n_documents):
        a, b, c = rng.choice(THINGS, 3)
        name, number, doing = rng.choice(NAMES), rng.integers(2, 90), rng.choice(DOINGS)
        opening = ["Once upon a time", "Long ago", "Here upon a stone"][rng.integers(3)]
        count = [f"{number} of the", f"of the {number}", "a few and"][rng.integers(3)]
        texts.append(
            f"{opening} {name} saw the {a}, a {b} and {count} {c}s.\n"
            f'"Look, {name}!" said the {b}, {doing}. It was {doing} and {doing} a {a}.'
        )
    return texts


@pytest.fixture(scope="module", params=[1, 3], ids=["characters", "pieces"])
def corpus(request) -> MeasuredCorpus:
    measured, _ = make_corpus(make_texts(), context=64, length=request.param)
    return measured


def on_words(corpus: MeasuredCorpus, active: np.ndarray, noise: float = 0.0) -> np.ndarray:
    """q (n_tokens, 1): the last token of each active word, and of some others weakly."""
    rng = np.random.default_rng(1)
    last = np.flatnonzero(np.diff(corpus.word, append=-1))
    q = np.zeros((len(corpus.word), 1), np.int64)
    q[last[active[corpus.word[last]]]] = 1000
    weak = last[rng.random(len(last)) < noise]
    q[weak] = np.maximum(q[weak], 100)
    return q


def label(corpus: MeasuredCorpus, q: np.ndarray) -> list[Label]:
    block = block_of(q)
    words = word_entries(block, corpus.word)
    return corpus.labeller.label(block, words.feature, words.word, words.q)


def forms(corpus: MeasuredCorpus) -> np.ndarray:
    return np.array(corpus.words.written_forms)[corpus.words.written]


def previous(values: np.ndarray, corpus: MeasuredCorpus) -> np.ndarray:
    before = np.concatenate([[""], values[:-1]])
    before[np.diff(corpus.words.document, prepend=-1) > 0] = ""
    return before


PLANTED = {
    "dog · puppy": lambda w, before, _: np.isin(w, ["dog", "puppy"]),
    "Lily": lambda w, before, _: w == "Lily",
    "comma": lambda w, before, _: w == ",",
    "after “the”": lambda w, before, _: before == "the",
    "after “Once upon”": lambda w, before, two: (two == "Once") & (before == "upon"),
    "word ending in -ing": lambda w, before, _: np.char.endswith(w, "ing"),
    "capitalised word": lambda w, before, _: np.char.istitle(w),
    "number": lambda w, before, _: np.char.isdigit(w),
}


@pytest.mark.parametrize("text", PLANTED)
def test_planted_properties_are_found(corpus, text):
    w = forms(corpus)
    before = previous(w, corpus)
    active = PLANTED[text](w, before, previous(before, corpus))
    [found] = label(corpus, on_words(corpus, active))
    assert sorted(found.text.split(" · ")) == sorted(text.split(" · "))
    assert found.score > 0.98


def test_noise_lowers_the_score_and_keeps_the_label(corpus):
    active = np.isin(forms(corpus), ["dog", "puppy"])
    [found] = label(corpus, on_words(corpus, active, noise=0.2))
    assert set(found.text.split(" · ")) == {"dog", "puppy"}
    assert 0.5 < found.score < 0.95


def test_score_is_the_weighted_f1_of_what_the_text_says(corpus):
    w = forms(corpus)
    q = on_words(corpus, np.isin(w, ["cat", "tree"]), noise=0.1)
    [found] = label(corpus, q)
    assert found.kind == "form"
    dense = np.zeros(len(w))
    np.maximum.at(dense, corpus.word, q[:, 0])
    here = corpus.words.document % 2 == 1
    weight = np.where(dense > 0, dense / dense[here & (dense > 0)].mean(), 1)[here]
    called, active = np.isin(w, found.text.split(" · "))[here], (dense > 0)[here]
    tp = weight[called & active].sum()
    f1 = 2 * tp / (weight[called].sum() + weight[active].sum())
    assert found.score == pytest.approx(f1, abs=1e-12)


def test_score_documents_have_no_part_in_the_choice(corpus):
    w = forms(corpus)
    q = on_words(corpus, np.isin(w, ["dog", "puppy"]))
    other = on_words(corpus, np.isin(w, ["ball"]))
    q_changed = np.where((corpus.layout.document % 2 == 1)[:, None], other, q)
    [before], [after] = label(corpus, q), label(corpus, q_changed)
    assert before.text == after.text
    assert before.explain_score == after.explain_score == 1.0
    assert after.score == 0.0


def test_chance_scores_low(corpus):
    rng = np.random.default_rng(3)
    q = (rng.random((len(corpus.word), 1)) < 0.01) * rng.integers(1, 1000, (len(corpus.word), 1))
    [found] = label(corpus, q)
    assert found.score < 0.2


def test_parts_of_words(corpus):
    # The token that ends "pup": in the middle of "puppy" for characters and for pieces of three.
    w = forms(corpus)[corpus.word]
    place = (
        np.arange(len(w))
        - np.flatnonzero(np.diff(corpus.word, prepend=-1))[
            np.unique(corpus.word, return_inverse=True)[1]
        ]
    )
    q = ((w == "river") & (place == 1)).astype(np.int64)[:, None] * 500
    [found] = label(corpus, q)
    assert found.score > 0.9
    assert found.text in {"river", "ri…"} or "ri" in found.text


def test_first_words(corpus):
    words = corpus.words
    first = np.diff(words.document, prepend=-1) > 0
    [found] = label(corpus, on_words(corpus, first))
    assert found.text == "first word of a document"
    assert found.score == 1.0


def test_dead_and_one_sided_features(corpus):
    w = forms(corpus)
    q = on_words(corpus, w == "dog")
    odd = (corpus.layout.document % 2 == 1)[:, None]
    assert label(corpus, np.zeros_like(q)) == []
    assert label(corpus, np.where(odd, q, 0)) == []
    [found] = label(corpus, np.where(odd, 0, q))
    assert (found.text, found.score) == ("dog", None)


def test_features_of_a_block_do_not_disturb_each_other(corpus):
    w = forms(corpus)
    columns = [on_words(corpus, w == form) for form in ("dog", ",", "Lily")]
    dead = np.zeros_like(columns[0])
    together = label(corpus, np.hstack([columns[0], dead, *columns[1:]]))
    assert [one.feature for one in together] == [0, 2, 3]
    assert [one.text for one in together] == ["dog", "comma", "Lily"]
