"""Search and reading: find, fires_on, promotes, suppresses and contexts, against plain Python."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import atlas
from atlas import Atlas
from atlas.activations import load
from atlas.errors import QueryError
from tests.synthetic import SAES, SCALE


@pytest.fixture(scope="module")
def store(toy: Path) -> Iterator[Atlas]:
    with atlas.open(toy) as opened:
        yield opened


# -- find -----------------------------------------------------------------------------------------


def terms_of(text: str) -> list[str]:
    """Lower-case words without accents, and single symbols; CJK characters one by one."""
    plain = "".join(
        c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn"
    )
    return re.findall(r"[一-鿿]|[^\W_][\w'’]*|[^\s\w]", plain)


def term_weights(store: Atlas) -> dict[int, Counter[str]]:
    weights: dict[int, Counter[str]] = defaultdict(Counter)
    for feature, text in store.rows("select feature_id, text from labels"):
        for term in terms_of(text):
            weights[feature][term] += 3
    for feature, form, part in store.rows(
        "select feature_id, form, w.sum_q / word_sum_q from word_stats w join features using"
        " (feature_id)"
    ):
        for term in terms_of(form):
            weights[feature][term] += 5 * part
    for feature, text, part in store.rows(
        "select feature_id, text, s.sum_q / f.sum_q from token_stats s join features f using"
        " (feature_id) join saes using (sae_id) join models using (model_id) join vocabulary"
        " using (tokenizer_id, token_id)"
    ):
        for term in terms_of(text):
            weights[feature][term] += 2 * part
    return weights


def bm25(weights: dict[int, Counter[str]], query: str) -> dict[int, float]:
    lengths = {feature: sum(of.values()) for feature, of in weights.items()}
    mean = np.mean(list(lengths.values()))
    scores: dict[int, float] = defaultdict(float)
    for term in set(terms_of(query)):
        having = [feature for feature, of in weights.items() if term in of]
        idf = math.log(1 + (len(weights) - len(having) + 0.5) / (len(having) + 0.5))
        for feature in having:
            tf = weights[feature][term]
            scores[feature] += idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * lengths[feature] / mean))
    return scores


@pytest.mark.parametrize("query", ["dog", "garden apple", "Lily's DON'T!", "cafe ünder", "日", "?"])
def test_find_ranks_by_bm25(store: Atlas, query: str) -> None:
    expected = bm25(term_weights(store), query)
    found = store.rows("select feature_id, score, rank from find(?, n := 1000)", [query])
    assert {row[0] for row in found} == set(expected)
    for feature, score, _ in found:
        assert score == pytest.approx(expected[feature], abs=2e-9)
    assert [row[2] for row in found] == list(range(1, len(found) + 1))
    assert [row[1] for row in found] == sorted((row[1] for row in found), reverse=True)


def test_find_puts_a_labelled_feature_first(store: Atlas) -> None:
    label, matched = store.row("select label, matched from find('dog', n := 1)")
    assert (label, matched) == ("“dog”", ["dog"])


def test_find_counts_a_repeated_word_once(store: Atlas) -> None:
    assert store.rows("from find('dog dog')") == store.rows("from find('dog')")


@pytest.mark.parametrize("query", ["", "  ", "nosuchword"])
def test_find_nothing(store: Atlas, query: str) -> None:
    assert store.rows("from find(?)", [query]) == []


def test_find_within_keeps_scores_and_ranks_anew(store: Atlas) -> None:
    everywhere = store.rows("select feature_id, score from find('dog', n := 1000)")
    here = store.rows("select feature_id, score, rank from find('dog', within := 'toy-c')")
    assert [row[:2] for row in here] == [row for row in everywhere if row[0] >= 72][:20]
    assert [row[2] for row in here] == list(range(1, len(here) + 1))


# -- fires_on -------------------------------------------------------------------------------------


def test_fires_on_counts_every_occurrence(store: Atlas) -> None:
    forms = [form.lower() for (form,) in store.rows("select form from words order by word")]
    at = np.flatnonzero(np.array(forms) == "lily")
    expected = {}
    for number, sae in enumerate(SAES):
        q = load(store, sae, "words").toarray()
        for index in np.flatnonzero(q[at].max(axis=0)):
            here = q[at, index]
            n_active = np.count_nonzero(here)
            expected[24 * number + int(index)] = (
                n_active / np.count_nonzero(q[:, index]),
                n_active / len(at),
                here.sum() / n_active * SCALE,
                here.max() * SCALE,
            )
    found = store.rows(
        "select feature_id, precision, recall, mean_activation, max_activation, f1"
        " from fires_on(' Lily', n := 1000)"
    )
    assert {row[0] for row in found} == set(expected)
    for feature, *measured, f1 in found:
        assert measured == pytest.approx(expected[feature])
        precision, recall = measured[:2]
        assert f1 == pytest.approx(2 * precision * recall / (precision + recall))
    assert [row[-1] for row in found] == sorted((row[-1] for row in found), reverse=True)


def test_fires_on_joins_with_a_column_of_words(store: Atlas) -> None:
    """Also under the names that the macro uses itself."""
    for alias in ("words", "asked", "tokens", "features"):
        found = store.rows(
            f"select {alias}.form, f.feature_id, f.rank from (values ('dog'), ('tree'), ('nobody'))"
            f" as {alias}(form), fires_on({alias}.form, n := 2) as f order by all"
        )
        expected = [
            (word, *row)
            for word in ("dog", "tree")
            for row in store.rows(f"select feature_id, rank from fires_on('{word}', n := 2)")
        ]
        assert sorted(found) == sorted(expected)


def test_fires_on_a_word_that_is_not_there(store: Atlas) -> None:
    assert store.rows("from fires_on('nobody')") == []


# -- promotes and suppresses ----------------------------------------------------------------------


@pytest.mark.parametrize("macro, sign", [("promotes", 1), ("suppresses", -1)])
def test_the_logit_lens_inverted(store: Atlas, macro: str, sign: int) -> None:
    rows = store.rows(
        "select abs(rank), abs(effect), feature_id, effect, text from token_effects join features"
        " using (feature_id) join saes using (sae_id) join models using (model_id)"
        " join vocabulary using (tokenizer_id, token_id) where sign(rank) = ?",
        [sign],
    )
    tokens = sorted({row[4].strip(" ") for row in rows} - {""})
    for token in tokens[::8]:
        expected = [row for row in rows if row[4].strip(" ") == token]
        expected.sort(key=lambda row: (row[0], -row[1], row[2], row[4]))
        found = store.rows(
            f"select token_rank, abs(effect), feature_id, effect, token from {macro}(?, n := 100)",
            [token],
        )
        assert found == expected


def test_a_token_may_be_given_with_its_space(store: Atlas) -> None:
    with_space, either = (
        store.rows("select feature_id, token from promotes(?, n := 100)", [token])
        for token in (" the", "the")
    )
    assert with_space
    assert {token for _, token in with_space} == {" the"}
    assert {token for _, token in either} >= {" the", "the"}


def test_within_an_unknown_model(store: Atlas) -> None:
    for call in ("find('dog'", "fires_on('dog'", "promotes('the'", "suppresses('the'"):
        with pytest.raises(QueryError, match="There is no 'toy' in this atlas; its SAEs are"):
            store.rows(f"from {call}, within := 'toy')")


# -- contexts -------------------------------------------------------------------------------------


def test_contexts_mark_the_peak_and_nothing_else(store: Atlas) -> None:
    found = store.rows(
        "select c.text, c.activation, c.split, c.document_id, c.stratum, e.q, d.text,"
        " a.start_char, p.start_char, p.end_char, z.end_char"
        " from feature_names f, contexts(f.feature_id, n := 100) c"
        " join examples e on e.feature_id = c.feature_id and e.rank = c.rank"
        " join tokens a on a.token = e.first_token join tokens p on p.token = e.token"
        " join tokens z on z.token = e.last_token"
        " join documents d on d.document_id = p.document_id"
    )
    assert len(found) == store.row("select count(*) from examples")[0]
    for text, activation, split, document, _, q, whole, first, start, end, last in found:
        peak = whole[start:end]
        inner = peak.strip() or peak
        before, _, after = peak.partition(inner)
        marked = f"{whole[first:start]}{before}«{inner}»{after}{whole[end:last]}"
        assert text == marked.replace("\n", "⏎")
        assert activation == q * SCALE
        assert split == ("score" if document % 2 else "explain")


def test_contexts_come_in_order_and_number(store: Atlas) -> None:
    found = store.rows("select rank, stratum from contexts('toy-a/0-resid_post/12', n := 13)")
    assert [rank for rank, _ in found] == list(range(1, 14))
    assert [stratum for _, stratum in found] == ["top"] * 12 + ["q1"]


def test_a_dead_feature_has_no_contexts(store: Atlas) -> None:
    assert store.rows("from contexts('toy-a/0-resid_post/23')") == []


# -- views ----------------------------------------------------------------------------------------


def test_a_card_says_what_the_tables_say(store: Atlas) -> None:
    relation = store.sql("from feature_cards where feature = 'toy-c/2-resid_post/15'")
    card = dict(zip(relation.columns, relation.fetchall()[0], strict=True))
    q = load(store, "toy-c/2-resid_post").toarray()[:, 15]
    assert card["feature_id"] == 87
    assert card["density"] == pytest.approx((q > 0).mean())
    assert card["mean_activation"] == pytest.approx(q[q > 0].mean() * SCALE)
    assert card["max_activation"] == q.max() * SCALE
    assert card["label"] == f"“{card['top_words'][0]}”"
    assert len(card["promotes"]) == len(card["suppresses"]) == 5
    ranked = store.rows(
        "select text from token_effects join vocabulary using (token_id)"
        " where feature_id = 87 and tokenizer_id = 1 order by rank"
    )
    assert [text for (text,) in ranked] == [*card["suppresses"][::-1], *card["promotes"]][:10]


def test_every_feature_has_one_card_dead_ones_too(store: Atlas) -> None:
    assert store.row("select count(*), count(distinct feature_id) from feature_cards") == (96, 96)
    dead = store.rows(
        "select label, top_words, mean_activation, max_activation from feature_cards"
        " where not alive"
    )
    assert dead == [(None, [], None, 0.0)] * 12


def test_firings_are_activations_with_their_text(store: Atlas) -> None:
    found = store.rows(
        "select f.activation, f.text, f.position, f.document_id, a.q, d.text[t.start_char + 1 :"
        " t.end_char], t.position, t.document_id from firings f join activations a using"
        " (feature_id, token) join tokens t using (token) join documents d on d.document_id ="
        " t.document_id where feature_id = 87"
    )
    assert len(found) == store.row("select n_active from features where feature_id = 87")[0]
    for activation, text, position, document, q, *expected in found:
        assert [text, position, document] == expected
        assert activation == q * SCALE


def test_the_overview_counts(store: Atlas) -> None:
    relation = store.sql("select models, saes, features, alive_features, documents from overview")
    assert relation.fetchall() == [(3, 4, 96, 84, 40)]


def test_model_and_sae_cards(store: Atlas) -> None:
    assert store.rows(
        "select model, n_saes, layers, n_features, n_alive from model_cards order by model"
    ) == [
        ("toy-a", 2, [0, 1], 48, 42),
        ("toy-b", 1, [0], 24, 21),
        ("toy-c", 1, [2], 24, 21),
    ]
    assert store.rows("select sae, ce_recovered, dead_share from sae_cards order by sae_id") == [
        (name, pytest.approx(2.8 / 3), 0.125) for name in SAES
    ]
