"""The card of one feature against the tables it is read from."""

from __future__ import annotations

import pytest

import atlas
from atlas.cards import card
from atlas.errors import NotFound
from tests.synthetic import DEAD, SAES, SCALE


@pytest.fixture(scope="module")
def opened(toy):
    with atlas.open(toy) as store:
        yield store


def test_name_and_id_give_the_same_card(opened):
    one = card(opened, f"{SAES[2]}/3")
    assert one == card(opened, one.feature_id)
    assert (one.name, one.sae, one.model, one.index) == (f"{SAES[2]}/3", SAES[2], "toy-b", 3)
    assert (one.layer, one.hook) == (0, "resid_post")


def test_statistics_are_in_real_units(opened):
    one = card(opened, 3)
    n, total, largest = opened.row(
        "select count(*), sum(q), max(q) from activations where feature_id = 3"
    )
    assert one.n_active == n
    assert one.mean_activation == pytest.approx(total * SCALE / n)
    assert one.max_activation == largest * SCALE
    assert list(one.quantiles) == ["0.1", "0.25", "0.5", "0.75", "0.9", "0.99"]
    assert list(one.quantiles.values()) == sorted(one.quantiles.values())
    assert one.quantiles["0.99"] <= one.max_activation


def test_label_with_the_best_score_comes_first(opened):
    one = card(opened, 3)
    assert one.label == opened.row("select label from best_labels where feature_id = 3")[0]
    assert len(one.labels) == opened.row("select count(*) from labels where feature_id = 3")[0]


def test_effects_run_from_the_strongest(opened):
    one = card(opened, 3, tops=3)
    promoted = [effect.effect for effect in one.promotes]
    suppressed = [effect.effect for effect in one.suppresses]
    assert len(promoted) == len(suppressed) == 3
    assert promoted == sorted(promoted, reverse=True)
    assert suppressed == sorted(suppressed)
    assert promoted[0] > 0 > suppressed[0]


def test_words_count_occurrences(opened):
    for word in card(opened, 3).top_words:
        assert 1 <= word.n_active <= word.n_words
        assert word.mean_activation > 0


def test_contexts_are_the_corpus_with_every_activation(opened):
    contexts = card(opened, 3, contexts=5).contexts
    assert [context.rank for context in contexts] == [1, 2, 3, 4, 5]
    for context in contexts:
        document = opened.row(
            "select text from documents where document_id = ?", [context.document_id]
        )[0]
        text = "".join(piece.text for piece in context.pieces)
        assert text in document
        assert context.marked.replace("«", "").replace("»", "") == text.replace("\n", "⏎")
        assert max(piece.activation for piece in context.pieces) >= context.activation
        assert context.activation in {piece.activation for piece in context.pieces}


def test_tokens_that_share_a_character_are_one_piece():
    from atlas.cards import Piece, _merged

    tokens = [(1, "", "a", 1.0), (1, "", "🎈", 0.0), (1, "", "", 3.0), (1, "  ", "b", 0.5)]
    assert list(_merged(iter(tokens))) == [
        Piece("a", 1.0),
        Piece("🎈", 3.0),
        Piece("  ", 0.0),
        Piece("b", 0.5),
    ]


def test_nearest_feature_of_every_other_sae(opened):
    one = card(opened, 3, contexts=0, similar=True)
    assert {near.feature.rpartition("/")[0] for near in one.neighbours} == set(SAES) - {one.sae}
    scores = [near.score for near in one.neighbours]
    assert scores == sorted(scores, reverse=True)
    for near in one.neighbours:
        exact = opened.row(
            "select feature, score from similar_exact(3, k := 1, within := ?)",
            [near.feature.rpartition("/")[0]],
        )
        assert (near.feature, near.score) == (exact[0], pytest.approx(exact[1]))


def test_dead_feature(opened):
    width = opened.row("select d_sae from saes where sae_id = 0")[0]
    one = card(opened, f"{SAES[0]}/{width - DEAD}", similar=True)
    assert not one.alive
    assert (one.density, one.n_active, one.max_activation) == (0, 0, 0)
    assert one.mean_activation is None
    assert one.quantiles == {}
    assert one.contexts == one.top_words == one.neighbours == ()


@pytest.mark.parametrize("name", ["toy-a/0-resid_post/99", "nowhere/0-resid_post/1", "9999", "x"])
def test_unknown_feature(opened, name):
    with pytest.raises(NotFound):
        card(opened, name)
