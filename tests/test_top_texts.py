"""The texts of each feature's strongest activations, against plain Python."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import atlas
from atlas import Atlas
from atlas.compare.top_texts import top_texts
from atlas.errors import BadInput
from tests.synthetic import DEAD, SAES, build_synthetic


@pytest.fixture(scope="module")
def store(toy: Path) -> Iterator[Atlas]:
    with atlas.open(toy) as opened:
        yield opened


def reference(store: Atlas, sae_id: int, over: str, n: int) -> list[frozenset[str]]:
    """The definition, one activation at a time."""
    strongest: list[dict[int, int]] = [defaultdict(int) for _ in range(24)]
    unit = "tokens.word" if over == "words" else "tokens.token"
    for index, place, q in store.rows(
        f"select index, {unit}, q from activations join features using (feature_id)"
        " join tokens using (token) where sae_id = ?",
        [sae_id],
    ):
        strongest[index][place] = max(strongest[index][place], q)
    if over == "words":
        texts = {word: form.lower() for word, form in store.rows("select word, form from words")}
    else:
        texts = dict(
            store.rows(
                "select token, text from tokens join tokenizers on token >= first_token"
                " and token < first_token + tokenizers.n_tokens join vocabulary"
                " using (tokenizer_id, token_id)"
            )
        )
    return [
        frozenset(texts[place] for place in sorted(found, key=lambda p: (-found[p], p))[:n])
        for found in strongest
    ]


@pytest.mark.parametrize("over", ["words", "tokens"])
@pytest.mark.parametrize("n", [1, 5, 40])
def test_texts_are_those_of_the_strongest(store: Atlas, over: str, n: int) -> None:
    for sae_id in range(len(SAES)):
        assert top_texts(store.cursor(), sae_id, over, n) == reference(store, sae_id, over, n)


def test_many_tokens_of_one_word_leave_room_for_others(tmp_path: Path) -> None:
    """Where the strongest tokens lie in too few words, all of the feature's words are compared."""
    path = build_synthetic(tmp_path / "long.atlas", documents=40)
    with atlas.open(path, write=True) as long:
        long.execute(
            "update tokens set word = 0 where token in (select token from activations where"
            " feature_id = 3 order by q desc limit 85)"
        )
        assert long.row("select count(*) from activations where feature_id = 3")[0] > 90
        assert top_texts(long.cursor(), 0) == reference(long, 0, "words", 5)


def test_of_equally_strong_ones_the_earlier_count(tmp_path: Path) -> None:
    path = build_synthetic(tmp_path / "ties.atlas", documents=4)
    with atlas.open(path, write=True) as tied:
        tied.execute("update activations set q = 7")
        for over in ("words", "tokens"):
            assert top_texts(tied.cursor(), 0, over, 3) == reference(tied, 0, over, 3)


def test_dead_features_have_none(store: Atlas) -> None:
    texts = top_texts(store.cursor(), 0)
    assert texts[-DEAD:] == [frozenset()] * DEAD
    assert all(texts[:-DEAD])


def test_words_are_lower_case_and_tokens_as_they_are(store: Atlas) -> None:
    words = frozenset().union(*top_texts(store.cursor(), 0, "words", 40))
    tokens = frozenset().union(*top_texts(store.cursor(), 0, "tokens", 40))
    assert "lily" in words
    assert "Lily" not in words
    assert any(token != token.lower() for token in tokens)


def test_bad_arguments(store: Atlas) -> None:
    with pytest.raises(BadInput, match="at least 1, not 0"):
        top_texts(store.cursor(), 0, n=0)
    with pytest.raises(ValueError, match="no SAE has the id 9"):
        top_texts(store.cursor(), 9)
