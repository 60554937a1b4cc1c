"""Words: UAX #29 spans that take in the white space after them, and tile every text."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from atlas.ingest.text.words import word_form, word_spans

TEXTS = st.one_of(
    st.text(),
    st.text(
        alphabet=" \t\n\r\x0b\x0c\x85\u00a0\u2028\u3000\x1cab1.,'_-:\"\u0301\u200d\u200b中カあ👩🇩"
    ),
)


def words(text: str) -> list[str]:
    start, end = word_spans(text)
    return [text[a:b] for a, b in zip(start, end, strict=True)]


@given(TEXTS)
@example("")
@example(" \n")
@example("\u0301")
@example(" \u0301a")
def test_every_character_is_in_exactly_one_word(text):
    start, end = word_spans(text)
    assert start.dtype == end.dtype == np.int32
    covered = np.zeros(len(text), int)
    for a, b in zip(start, end, strict=True):
        covered[a:b] += 1
    assert (covered == 1).all()
    assert (end > start).all()
    assert "".join(words(text)) == text


@given(TEXTS)
def test_only_a_first_word_begins_with_white_space(text):
    spaces = [i for i, word in enumerate(words(text)) if regex.match(r"\s", word)]
    assert spaces in ([], [0])


@given(TEXTS)
def test_words_end_only_where_unicode_has_a_boundary(text):
    boundaries = {match.start() for match in regex.finditer(r"(?w)\b", text)}
    starts = set(word_spans(text)[0].tolist())
    assert starts <= boundaries
    before_space = {i for i in boundaries if i < len(text) and regex.match(r"\s", text[i])}
    assert boundaries - {len(text)} - before_space - {0} == starts - {0}


@given(TEXTS)
def test_a_form_is_the_word_without_the_white_space_that_ends_it(text):
    start, end = word_spans(text)
    forms = [word_form(text, a, b) for a, b in zip(start, end, strict=True)]
    for word, form in zip(words(text), forms, strict=True):
        assert regex.fullmatch(r"\s*", word.removeprefix(form))
        assert not regex.search(r"\s\Z", form)


def test_white_space_is_that_of_unicode_and_not_the_separators_that_python_adds():
    assert word_form("a\u2003\u0085\u3000\r\n", 0, 6) == "a"
    assert word_form("a\x1c", 0, 2) == "a\x1c"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Don't stop, it's 3.14!", ["Don't ", "stop", ", ", "it's ", "3.14", "!"]),
        ("can’t 1,000 snake_case", ["can’t ", "1,000 ", "snake_case"]),
        ("  lead", ["  ", "lead"]),
        ("\n", ["\n"]),
        ("a\r\n\r\nb\t \n", ["a\r\n\r\n", "b\t \n"]),
        ("中文字 を", ["中", "文", "字 ", "を"]),
        ("カタカナ語", ["カタカナ", "語"]),
        ("안녕 세상", ["안녕 ", "세상"]),
        ("cafe\u0301 naïve", ["cafe\u0301 ", "naïve"]),
        ("👨‍👩‍👧 ok👍🏽", ["👨‍👩‍👧 ", "ok", "👍🏽"]),
        ("🇩🇪🇫🇷", ["🇩🇪", "🇫🇷"]),
        ("שלום world", ["שלום ", "world"]),
        ("a\u00a0b\u3000c", ["a\u00a0", "b\u3000", "c"]),
        ("x\u200by", ["x", "\u200b", "y"]),
        ("a \u0308b", ["a \u0308", "b"]),
    ],
)
def test_boundaries(text, expected):
    assert words(text) == expected


@given(st.text(alphabet=st.characters(categories=["Mn"]), min_size=1, max_size=5))
def test_marks_stay_with_their_letter(marks):
    if all(unicodedata.combining(mark) for mark in marks):
        assert words(f"a{marks}b c") == [f"a{marks}b ", "c"]
