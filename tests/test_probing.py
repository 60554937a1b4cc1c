"""Probing and absorption against brute force, and on features whose part in it is planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from atlas.ingest.measuring import absorption as absorbing
from atlas.ingest.measuring import functions, probing
from atlas.ingest.measuring.absorption import (
    KnownLetter,
    LetterWords,
    absorption,
    absorption_metrics,
    known_letters,
    letter_words,
)
from atlas.ingest.measuring.encode import encode_reference
from atlas.ingest.measuring.functions import latent_activations, measure_functions
from atlas.ingest.measuring.logistic import (
    RIDGE,
    auc,
    balanced_accuracy,
    best_threshold,
    f1,
    fit,
    fit_each,
)
from atlas.ingest.measuring.probing import (
    SIZES,
    ProbedTokens,
    mean_differences,
    probe,
    probe_metrics,
)
from atlas.ingest.measuring.properties import token_properties
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint, Sites
from atlas.ingest.text.forms import WordForms
from atlas.ingest.text.tokens import TokenStream
from tests.measured import make_reference, make_sae, make_stream, write_parts
from tests.tiny import make_model, make_text

TEXTS = [
    "Tom's 3 dogs ran.\nThen, at 12:30, THEY slept! Élan «vital»…\n\n  the End 日本",
    "a",
    "\n42 is (not) 7.  Why? Because.",
    "plain words and no more " * 6,
]


# ---- logistic regression


def objective(w: np.ndarray, b: float, x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    scaled = w * x.std(axis=0)
    margin = np.where(y, 1, -1) * (x @ w + b)
    return float((weight * np.log1p(np.exp(-margin))).sum() + RIDGE / 2 * (scaled**2).sum())


@pytest.mark.parametrize("separable", [False, True])
def test_a_regression_is_where_its_objective_is_least(separable):
    rng = np.random.default_rng(0)
    x = rng.exponential(1, (400, 3)) * (1, 100, 0.01)
    y = x[:, 0] + (0 if separable else rng.standard_normal(400)) > 1.5
    x[:, 2] += 1e3
    share = y.mean()
    balanced = np.where(y, 0.5 / share, 0.5 / (1 - share)) / len(y)
    equal = np.full(len(y), 1 / len(y))
    w, b = fit(x, y)
    each, biases = fit_each(x, np.stack([y, ~y], axis=1))
    for found, weight in (((w, b), balanced), ((each[:, 0], biases[0]), equal)):
        least = objective(*found, x, y, weight)
        for column in range(4):
            for step in (-1e-2, 1e-2):
                nudged = np.append(found[0] * x.std(axis=0), found[1] + found[0] @ x.mean(axis=0))
                nudged[column] += step
                moved = nudged[:3] / x.std(axis=0)
                assert objective(moved, nudged[3] - moved @ x.mean(axis=0), x, y, weight) > least
    np.testing.assert_allclose(each[:, 0], -each[:, 1], rtol=1e-2, atol=1e-6)


def test_a_constant_column_weighs_nothing():
    x = np.stack([np.ones(50), np.arange(50.0)], axis=1)
    w, _ = fit(x, np.arange(50) > 20)
    assert w[0] == 0
    assert np.isfinite(w).all()
    assert w[1] > 0


@given(st.integers(0, 2**32 - 1), st.integers(2, 30))
@settings(max_examples=60, deadline=None)
def test_scores_are_brute_forces(seed, n):
    rng = np.random.default_rng(seed)
    score = rng.integers(0, 6, n).astype(float)
    y = rng.random(n) < 0.4
    y[:2] = True, False
    pairs = [(a > b) + (a == b) / 2 for a in score[y] for b in score[~y]]
    assert auc(score, y) == pytest.approx(np.mean(pairs))
    t = best_threshold(score, y)
    assert f1(score >= t, y) == max(f1(score >= one, y) for one in score)
    predicted = score >= t
    assert balanced_accuracy(predicted, y) == pytest.approx(
        ((predicted & y).sum() / y.sum() + (~predicted & ~y).sum() / (~y).sum()) / 2
    )
    assert f1(predicted, y) == pytest.approx(
        2 * (predicted & y).sum() / (predicted.sum() + y.sum())
    )


# ---- properties


@pytest.mark.parametrize("length", [1, 3, 100])
def test_properties_are_those_of_the_text(length):
    reference = make_reference(TEXTS)
    stream, _ = make_stream(reference, length)
    context = 8
    found = token_properties(reference, stream, context)
    texts = [
        TEXTS[document][start:end]
        for document, start, end in zip(stream.document, stream.start, stream.end, strict=True)
    ]
    wanted = {
        "capital": [t.strip()[:1].isupper() for t in texts],
        "digit": [any(map(str.isdigit, t)) for t in texts],
        "punctuation": [
            any(c in ",.:;!?…'()«»" for c in t) and not any(map(str.isalnum, t)) for t in texts
        ],
        "line_break": ["\n" in t for t in texts],
    }
    n = len(texts)
    for name, has in wanted.items():
        assert found[name].tolist() == has, name
        follows = [
            i + 1 < n and stream.document[i + 1] == stream.document[i] and has[i + 1]
            for i in range(n)
        ]
        assert found[f"next_{name}"].tolist() == follows, name
    word = stream.word
    assert found["first_of_word"].tolist() == [i == 0 or word[i - 1] != word[i] for i in range(n)]
    assert found["last_of_word"].tolist() == [
        i == n - 1 or word[i + 1] != word[i] for i in range(n)
    ]
    assert found["early_in_document"].tolist() == [p < 16 for p in stream.position]
    assert found["late_in_context"].tolist() == [p % context >= 4 for p in stream.position]
    assert len(found) == 12


# ---- probes


def test_mean_differences_are_means():
    rng = np.random.default_rng(0)
    acts = rng.integers(0, 9, (5, 40)) * (rng.random((5, 40)) < 0.3)
    labels = rng.random((40, 3)) < 0.4
    found = mean_differences(sparse.csr_array(acts), labels.astype(np.int64))
    for i in range(3):
        has = labels[:, i]
        np.testing.assert_allclose(found[:, i], acts[:, has].mean(1) - acts[:, ~has].mean(1))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """12 documents of 50 tokens; feature 7 is one property's, 1 strong everywhere, 2 noise."""
    rng = np.random.default_rng(0)
    document = np.repeat(np.arange(12), 50)
    has = rng.random(600) < 0.3
    q = np.zeros((600, 30), int)
    q[:, 7] = has * rng.integers(5, 20, 600)
    q[:, 1] = rng.integers(900, 1000, 600)
    q[:, 2] = rng.integers(0, 3, 600)
    folder = tmp_path_factory.mktemp("planted")
    parts = write_parts(folder, q, [130, 470])
    counted = np.ones(600, bool)
    rare = np.zeros(600, bool)
    rare[:30] = True
    tokens = ProbedTokens({"planted": has, "rare": rare}, document, counted)
    return parts, tokens, q, has, document


def test_a_property_of_one_feature_is_found_in_it(planted):
    parts, tokens, *_ = planted
    probes = probe(parts, np.ones(30), tokens)
    assert [(one.property, one.k) for one in probes] == [("planted", k) for k in SIZES]
    for one in probes:
        assert one.features[0] == 7
        assert one.balanced_accuracy == one.f1 == one.auc == 1
        assert one.n_tokens == 300
    assert probes[1].features[1] in (1, 2)
    assert len(probes[-1].features) == 3, "features that never fire tell nothing"
    assert probe_metrics(probes) == {f"sparse_probing_k{k}": 1.0 for k in SIZES}


def test_longer_directions_count_for_more(planted):
    parts, tokens, *_ = planted
    length = np.ones(30)
    length[7] = 1e-6
    assert probe(parts, length, tokens)[0].features[0] != 7
    # Halved activations with doubled directions are the same feature.
    assert probe(parts, np.full(30, 2.0), tokens) == probe(parts, np.ones(30), tokens)


def test_probes_are_chosen_on_one_split_and_scored_on_the_other(tmp_path):
    rng = np.random.default_rng(0)
    document = np.repeat(np.arange(8), 40)
    has = rng.random(320) < 0.5
    score = document % 2 == 1
    q = np.zeros((320, 3), int)
    q[:, 0] = np.where(score, ~has, has) * 5  # tells the property, but turned round in the other
    parts = write_parts(tmp_path, q, [])
    (one, *_) = probe(parts, np.ones(3), ProbedTokens({"x": has}, document, np.ones(320, bool)))
    assert one.balanced_accuracy == one.auc == 0
    assert one.n_positive == has[score].sum()


def test_rows_of_probed_tokens(planted):
    _, _, _, has, document = planted
    counted = np.arange(600) % 2 == 0
    tokens = ProbedTokens({"planted": has}, document, counted, most=120)
    rows = np.flatnonzero(tokens.row >= 0)
    assert len(rows) <= 120
    assert counted[rows].all()
    explain = rows[document[rows] % 2 == 0]
    assert sorted(tokens.row[explain]) == list(range(tokens.n_explain))
    # Whole documents, at even distances.
    assert len(np.unique(document[rows])) == 4
    assert tokens.labels == {}, "too few of each kind are left"


# ---- absorption


def planted_words(rng: np.random.Generator, n: int = 1000, d: int = 40):
    """Words of 5 letters; of 's', some are absorbed by latent 10.

    Latent i < 5 is letter i's; latent 10 carries letter 0 and a word of its own. Every word also
    has a latent at random, among 11 to 29.
    """
    letter = rng.integers(0, 5, n)
    directions = np.linalg.qr(rng.standard_normal((d, d)))[0].astype(np.float32)
    W_dec = directions[:30].copy()
    W_dec[10] = (directions[0] + 0.5 * directions[10]) / np.sqrt(1.25)
    absorbed = (letter == 0) & (np.arange(n) % 25 == 0)
    acts = np.zeros((n, 30), np.float32)
    acts[np.arange(n), letter] = 2 + rng.random(n)
    acts[absorbed, 0] = 0
    acts[absorbed, 10] = 2 + rng.random(absorbed.sum())
    acts[np.arange(n), rng.integers(11, 30, n)] = 1
    words = LetterWords(np.arange(n), (letter + ord("s")).astype(np.int32), rng.random(n) < 0.5)
    return words, directions, W_dec, acts, absorbed


def known(words: LetterWords, directions: np.ndarray) -> list[KnownLetter]:
    return [
        KnownLetter(code, directions[i], 0.9, ~words.fitted & (words.letter == code))
        for i, code in enumerate(np.unique(words.letter).tolist())
    ]


def test_a_planted_absorber_is_found():
    words, directions, W_dec, acts, absorbed = planted_words(np.random.default_rng(0))
    letters = known(words, directions)
    found = absorption(words, letters, sparse.csr_array(acts), W_dec, acts @ W_dec)
    assert [one.letter for one in found] == list("stuvw")
    share = absorbed[letters[0].found].mean()
    assert share > 0
    assert found[0].main == (0,), "the absorber adds too little to be a main latent"
    assert found[0].full_share == pytest.approx(share)
    assert found[0].fraction == pytest.approx(share)
    assert found[0].absorbers == (10,)
    for i, one in enumerate(found[1:], 1):
        assert (one.main, one.main_f1) == ((i,), 1.0)
        assert one.full_share == one.fraction == 0
        assert one.absorbers == ()
    metrics = absorption_metrics(found)
    assert metrics["absorption_full"] == pytest.approx(share / 5)
    assert metrics["absorption_splits"] == 1
    assert metrics["absorption_letters"] == 5
    assert absorption_metrics(found[:4]) == {}, "four letters are too few for a mean"


def test_no_absorption_where_latents_do_not_carry_the_letter():
    words, directions, W_dec, acts, _ = planted_words(np.random.default_rng(0))
    W_dec[10] = directions[10]
    letters = known(words, directions)
    # The letter is there, but the SAE leaves it out.
    left = acts @ W_dec + 2 * directions[0] * (words.letter == ord("s"))[:, None]
    (one, *_) = absorption(words, letters, sparse.csr_array(acts), W_dec, left)
    assert one.full_share == one.fraction == 0


def test_a_split_letter_has_two_main_latents_and_no_absorption():
    words, directions, W_dec, acts, absorbed = planted_words(np.random.default_rng(0))
    half = (words.letter == ord("s")) & (np.arange(len(words)) % 2 == 0)
    acts[absorbed, 0], acts[absorbed, 10] = 2.5, 0
    acts[half, 5], acts[half, 0] = acts[half, 0], 0
    W_dec[5] = directions[0]
    (one, *_) = absorption(
        words, known(words, directions), sparse.csr_array(acts), W_dec, acts @ W_dec
    )
    assert set(one.main) == {0, 5}
    assert one.main_f1 == 1
    assert one.full_share == one.fraction == 0


def test_partly_absorbed_words_count_by_their_part():
    words, directions, W_dec, acts, _ = planted_words(np.random.default_rng(0))
    mine = words.letter == ord("s")
    acts[mine] = 0
    acts[mine, 0], acts[mine, 10] = 1.5, 2 * np.sqrt(1.25)  # 1.5 and 2 along the letter
    (one, *_) = absorption(
        words, known(words, directions), sparse.csr_array(acts), W_dec, acts @ W_dec
    )
    # Of two latents that fire on the same words, the stronger one is the main latent.
    assert one.main == (10,)
    assert one.fraction == pytest.approx(1.5 / 3.5, abs=1e-5)
    assert one.full_share == 0


@pytest.mark.parametrize(
    ("t", "main", "others", "fraction"),
    [
        (4, 4, 3, 0), (4, 5, 3, 0), (4, 1, 1.5, 0), (4, 0, 2, 1), (4, -1, 2, 1),
        (4, 1, 2, 2 / 3), (4, 2, 4, 1 / 2),
    ],
)  # fmt: skip
def test_absorbed_fraction(t, main, others, fraction):
    assert absorbing._fraction(t, main, others) == pytest.approx(fraction)


def test_letters_that_activations_hold_are_known_and_others_not():
    rng = np.random.default_rng(0)
    words, directions, _, acts, _ = planted_words(rng)
    y = (acts[:, :5] @ directions[:5] + 100).astype(np.float32)
    found = known_letters(y, words)
    assert [one.letter for one in found] == list(range(ord("s"), ord("x")))
    for i, one in enumerate(found):
        assert np.linalg.norm(one.direction) == pytest.approx(1)
        others = np.delete(np.arange(5), i)
        assert one.direction @ directions[i] > (directions[others] @ one.direction).max() + 0.5
        assert not (one.found & words.fitted).any()
        assert (words.letter[one.found] == one.letter).all()
    assert known_letters(rng.standard_normal(y.shape).astype(np.float32), words) == []
    assert known_letters(y[:0], LetterWords(*(np.zeros(0, t) for t in ("i8", "i4", "?")))) == []


def test_letter_words_begin_their_words(monkeypatch):
    monkeypatch.setattr(absorbing, "LEAST_FORMS", 2)
    texts = [
        "sun Sea sky sad  tea toe Tom ten, 12 (unit) sun sun sun sun sun",
        "sun sea tin van vet via vow",
    ]
    reference = make_reference(texts)
    stream, _ = make_stream(reference, 2)
    forms = WordForms.build(reference)
    words = letter_words(reference, forms, stream, np.ones(len(stream), bool), 1000)
    assert (np.diff(words.token) > 0).all()
    shown = [
        texts[d][s:e].lower()
        for d, s, e in zip(
            stream.document[words.token], stream.start[words.token], stream.end[words.token],
            strict=True,
        )
    ]  # fmt: skip
    assert [text[0] for text in shown] == [chr(code) for code in words.letter]
    # 4 forms of s and 5 of t; one of u. At most four times each: "sun" seven times in the text.
    assert sorted(shown) == sorted(["su"] * 4 + ["se", "se", "sk", "sa"] + ["te", "to", "to", "te", "ti"] + ["va", "ve", "vi", "vo"])  # fmt: skip # noqa: E501
    halves: dict[str, set[bool]] = {}
    for word, fitted in zip(stream.word[words.token], words.fitted, strict=True):
        halves.setdefault(forms.lower_forms[forms.lower[word]], set()).add(bool(fitted))
    assert all(len(half) == 1 for half in halves.values()), "a form lies in one half"
    for letter in "stv":
        mine = [half for form, (half,) in halves.items() if form[0] == letter]
        assert abs(sum(mine) - len(mine) / 2) <= 1 / 2
    few = letter_words(reference, forms, stream, np.arange(len(stream)) < 20, 1000)
    assert few.token.max() < 20
    assert len(letter_words(reference, forms, stream, np.ones(len(stream), bool), 9)) <= 9


# ---- from a model


@pytest.mark.parametrize("normalize", ["none", "layer_norm", "constant_norm"])
def test_latents_and_the_rest_make_up_the_reconstruction(normalize, monkeypatch):
    monkeypatch.setattr(functions, "_ROWS", 7)
    sae = replace(
        make_sae(6), normalize=normalize, b_dec=torch.randn(6), W_skip=torch.randn(6, 6),
        output_scale=0.3,
    )  # fmt: skip
    x = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32) * 4 + 1
    acts, base = latent_activations(sae, x)
    given_x = torch.from_numpy(x)
    whole = sae.decode(sae.encode(given_x), given_x).numpy()
    np.testing.assert_allclose(acts @ sae.W_dec.numpy() + base, whole, rtol=1e-3, atol=1e-3)
    assert acts.shape == (20, sae.d_sae)


def test_functions_of_several_dictionaries(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(absorbing, "LEAST_FORMS", 3)
    monkeypatch.setattr(absorbing, "LEAST_F1", 0.1)
    monkeypatch.setattr(probing, "LEAST", 20)
    model = LanguageModel.load(str(make_model(tmp_path / "model")), device="cpu")
    reference = make_reference([make_text(80, seed) for seed in range(12)])
    stream = references_stream(reference, model)
    early, late = HookPoint(0, "resid_pre"), HookPoint(1, "mlp_out")
    saes = {
        "sae": (Sites.at(early), make_sae(16, d_sae=60, k=8)),
        "transcoder": (Sites((early,), (late,)), make_sae(16, seed=1)),
    }
    parts = encode_reference(model, saes, stream, 32, tmp_path / "parts")
    arguments = (model, saes, parts, reference, WordForms.build(reference), stream, 32)
    found = measure_functions(*arguments, tmp_path / "functions")
    for one in found.values():
        assert {p.k for p in one.probes} == set(SIZES)
        metrics, tables = one.metrics(), one.tables()
        assert 0.4 < metrics["sparse_probing_k16"] <= 1
        assert tables["probes"].num_rows == len(one.probes)
        assert tables["absorptions"].num_rows == len(one.absorptions)
    assert found["sae"].absorptions, "random embeddings tell the first letter"
    assert {p.property for p in found["sae"].probes} >= {"first_of_word", "capital", "punctuation"}
    assert not list((tmp_path / "functions").glob("*.npy"))
    # Gone on with: what is there is taken as it is, the rest comes out the same.
    (tmp_path / "functions" / "functions-sae.json").unlink()
    measured = []
    measure = functions._measure
    monkeypatch.setattr(functions, "_measure", lambda *a: measured.append(1) or measure(*a))
    assert measure_functions(*arguments, tmp_path / "functions") == found
    assert len(measured) == 1


def references_stream(reference, model: LanguageModel) -> TokenStream:
    from atlas.ingest.text import reference as references

    return references.stream(reference, model.tokenizer)
