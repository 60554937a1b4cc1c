"""What a label may say: properties of words and of tokens that a reader understands at a glance.

A *kind* of property gives every word (or every token) of the reference corpus one key: its form,
the word before it, its ending, its place in the sentence. A label names a kind and a few of its
keys, and is true of exactly the words (tokens) with one of these keys: text and classifier are one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from atlas.ingest.describing.examples import Layout
from atlas.ingest.measuring.segments import rank_in_segment, segment_starts
from atlas.ingest.text.forms import NEWLINE, NO_SPACE, SPACE, WordForms
from atlas.ingest.text.tokens import TokenStream

Unit = Literal["word", "token"]
Keys = NDArray[np.integer]

SEPARATOR = " · "

_NAMES = {
    "": "leading white space",
    ",": "comma",
    ".": "full stop",
    "...": "ellipsis",
    "…": "ellipsis",
    "!": "exclamation mark",
    "?": "question mark",
    ":": "colon",
    ";": "semicolon",
    "-": "hyphen",
    "–": "dash",
    "—": "dash",
    "'": "apostrophe",
    "’": "right single quote",
    "‘": "left single quote",
    '"': "quotation mark",
    "“": "opening quotation mark",
    "”": "closing quotation mark",
    "(": "opening bracket",
    ")": "closing bracket",
    "\n": "line break",
    " ": "space",
    "\t": "tab",
}

_SENTENCE_END = frozenset(".!?…。！？")
_QUOTES = frozenset('"“”«»')

_SHAPES = (
    "capitalised word",
    "word in capitals",
    "lower-case word",
    "number",
    "punctuation",
    "symbol",
)
_CAPITALISED, _CAPITALS, _LOWER, _NUMBER, _PUNCTUATION, _SYMBOL = range(len(_SHAPES))

_FOLLOWED = {
    NO_SPACE: "word with no space after it",
    SPACE: "word with a space after it",
    NEWLINE: "end of a line",
}
_SENTENCE = ("first word of a document", "first word of a sentence", "inside a sentence")
_QUOTATION = ("outside quotations", "inside a quotation")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth or later")


@dataclass(frozen=True)
class Kind:
    """One kind of property."""

    name: str
    unit: Unit
    key: Keys
    """(n_units,) key of each word or token, in [0, n_keys]; n_keys where it has none."""
    n_keys: int
    most: int
    """How many keys a label may name."""
    cost: float
    """By how much F1 must be better than that of plain word forms for this kind to be chosen: what
    it says is harder to read, or it has so many keys that some fit by chance."""
    text: Callable[[Sequence[int]], str]
    """Words the label; keys are given with the most telling first."""


def _kind(
    name: str,
    unit: Unit,
    key: NDArray[np.integer],
    n_keys: int,
    text: Callable[[Sequence[int]], str],
    *,
    most: int = 1,
    cost: float = 0.0,
) -> Kind:
    """A kind whose `key` is negative where a unit has none."""
    # The corpus has one key for every kind, so each takes no more bytes than it needs.
    keys = np.where(key < 0, n_keys, key).astype(np.min_scalar_type(n_keys))
    return Kind(name, unit, keys, n_keys, most, cost, text)


def _named(name: str, unit: Unit, key: NDArray[np.integer], names: Sequence[str]) -> Kind:
    """A kind with one text for each of its keys, of which a label names one."""
    return _kind(name, unit, key, len(names), lambda keys: names[keys[0]])


def quoted(form: str) -> str:
    """A form in running text: `“dog”`, but `comma` for what quotation marks would hide."""
    return _NAMES.get(form, f"“{form}”")


def _visible(text: str) -> str:
    """Text with its white space and control characters made visible, but for single spaces."""
    return "".join(
        {"\n": "↵", "\t": "⇥"}.get(character, "�")
        if character != " " and (character.isspace() or unicodedata.category(character) == "Cc")
        else character
        for character in text
    )


def word_kinds(words: WordForms) -> list[Kind]:
    """Properties of words."""
    form, n_forms = words.lower, len(words.lower_forms)
    shown = _display_forms(words)
    before = _previous(form, words.document)
    before_that = _previous(before, words.document)

    def forms_text(keys: Sequence[int]) -> str:
        return SEPARATOR.join(_NAMES.get(shown[key], shown[key]) for key in keys)

    def after_text(keys: Sequence[int]) -> str:
        return "after " + SEPARATOR.join(quoted(shown[key]) for key in keys)

    def form_after_text(pairs: Sequence[tuple[int, int]]) -> str:
        return _phrase_pairs([(shown[a], shown[b]) for a, b in pairs])

    def after_two_text(pairs: Sequence[tuple[int, int]]) -> str:
        return "after " + SEPARATOR.join(f"“{_join(shown[a], shown[b])}”" for a, b in pairs)

    return [
        _kind("form", "word", form, n_forms, forms_text, most=6),
        _kind("after", "word", before, n_forms, after_text, most=3),
        _pairs("form after", "word", before, form, form_after_text, most=3, cost=0.03),
        _pairs("after two", "word", before_that, before, after_two_text, most=2, cost=0.03),
        _affixes(words, 3, ending=True),
        _affixes(words, 2, ending=True),
        _affixes(words, 2, ending=False),
        _affixes(words, 1, ending=False),
        _named("shape", "word", _of_form(words, _shape), _SHAPES),
        _named("followed by", "word", words.after, list(_FOLLOWED.values())),
        _named("sentence", "word", _sentence_place(words), _SENTENCE),
        _named("quotation", "word", _in_quotation(words), _QUOTATION),
        _named("any", "word", np.zeros(len(words), np.int32), ("nearly every word",)),
    ]


def token_kinds(
    words: WordForms, stream: TokenStream, vocabulary: Sequence[str], layout: Layout
) -> list[Kind]:
    """Properties of tokens, for what words do not explain."""
    token_id = np.asarray(stream.token_id)
    before = _previous(token_id, layout.document)
    texts = ["\n" if text == "<0x0A>" else text for text in vocabulary]
    word = np.asarray(stream.word)
    within = rank_in_segment(segment_starts(word), len(word))
    # 0, 1, 2-3, 4-7, … tokens after the first
    octave = np.ceil(np.log2(np.arange(len(word)) - layout.context_first + 1)).astype(np.int32)

    def token_text(keys: Sequence[int]) -> str:
        names = (_NAMES.get(texts[key], f"“{_visible(texts[key])}”") for key in keys)
        return "token " + SEPARATOR.join(names)

    def ending_text(pairs: Sequence[tuple[int, int]]) -> str:
        endings = (f"“{_visible(texts[a] + texts[b])}”" for a, b in pairs)
        return "text ending in " + SEPARATOR.join(endings)

    return [
        _kind("token", "token", token_id, len(texts), token_text, most=6, cost=0.03),
        _pairs("token after", "token", before, token_id, ending_text, most=4, cost=0.05),
        _word_so_far(words, stream),
        _named(
            "place in word",
            "token",
            np.minimum(within, len(_ORDINALS) - 1),
            [f"{ordinal} token of a word" for ordinal in _ORDINALS],
        ),
        _named(
            "place in context",
            "token",
            octave,
            [_context_place(number) for number in range(int(octave.max(initial=0)) + 1)],
        ),
    ]


def _previous(key: Keys, document: NDArray[np.integer]) -> Keys:
    """The key before each in the same document, -1 where there is none."""
    before = np.full(len(key), -1, np.int32)
    before[1:] = np.where(document[1:] == document[:-1], key[:-1], -1)
    return before


def _context_place(octave: int) -> str:
    if octave == 0:
        return "first token of a context"
    first, last = 2 ** (octave - 1) + 1, 2**octave
    return f"token {first} of a context" if first == last else f"tokens {first}–{last} of a context"


def _display_forms(words: WordForms) -> list[str]:
    """Each lower-case form as it is most often written: "Lily" for "lily"."""
    count = np.bincount(words.written, minlength=len(words.written_forms))
    lower_of = np.empty(len(words.written_forms), np.int64)
    lower_of[words.written] = words.lower
    order = np.lexsort((-count, lower_of))
    first = order[segment_starts(lower_of[order])]
    return [_visible(words.written_forms[number]) for number in first]


def _pairs(
    name: str,
    unit: Unit,
    before: Keys,
    key: Keys,
    text: Callable[[Sequence[tuple[int, int]]], str],
    *,
    most: int,
    cost: float,
) -> Kind:
    """A kind whose keys are the distinct pairs (before, key); none where either is -1."""
    present = (before >= 0) & (key >= 0)
    width = int(key.max(initial=0)) + 1
    codes = before[present].astype(np.int64) * width + key[present]
    distinct, inverse = np.unique(codes, return_inverse=True)
    number = np.full(len(key), -1, np.int32)
    number[present] = inverse

    def text_of(keys: Sequence[int]) -> str:
        return text([divmod(int(distinct[key]), width) for key in keys])

    return _kind(name, unit, number, len(distinct), text_of, most=most, cost=cost)


def _of_form(words: WordForms, key_of: Callable[[str], int]) -> Keys:
    """(n_words,) a key that depends on the written form alone."""
    return np.array([key_of(form) for form in words.written_forms], np.int32)[words.written]


def _affixes(words: WordForms, length: int, *, ending: bool) -> Kind:
    """Ending or beginning of `length` letters, for words that are longer."""
    numbers: dict[str, int] = {}

    def key_of(form: str) -> int:
        if len(form) <= length or not form.isalpha():
            return -1
        affix = form.lower()[-length:] if ending else form.lower()[:length]
        return numbers.setdefault(affix, len(numbers))

    key = _of_form(words, key_of)
    which = "ending" if ending else "beginning"
    names = [f"-{affix}" if ending else f"{affix}-" for affix in numbers]

    def text(keys: Sequence[int]) -> str:
        return f"word {which} in {SEPARATOR.join(names[key] for key in keys)}"

    return _kind(f"{which} {length}", "word", key, len(names), text, most=4, cost=0.02)


def _shape(form: str) -> int:
    if form.isalpha() or (form[:1].isalpha() and any(map(str.isalpha, form[1:]))):
        if form.isupper() and len(form) > 1:
            return _CAPITALS
        return _CAPITALISED if form[0].isupper() else _LOWER
    if any(map(str.isdigit, form)):
        return _NUMBER
    if form and all(unicodedata.category(character).startswith("P") for character in form):
        return _PUNCTUATION
    return _SYMBOL if form else -1


def _sentence_place(words: WordForms) -> Keys:
    """0 for the first word of a document, 1 of a sentence, 2 inside; -1 for punctuation."""
    has_letter = np.array([any(map(str.isalnum, form)) for form in words.written_forms])
    ends = np.array([form[-1:] in _SENTENCE_END for form in words.written_forms])
    is_word = has_letter[words.written]
    place = np.full(len(words), -1, np.int32)
    at = np.flatnonzero(is_word)
    # A sentence ends where a stop stands between this word and the word with letters before it.
    stops = np.cumsum(ends[words.written])
    new_document = np.ones(len(at), bool)
    new_document[1:] = words.document[at[1:]] != words.document[at[:-1]]
    stopped = np.zeros(len(at), bool)
    stopped[1:] = stops[at[1:]] > stops[at[:-1]]
    place[at] = np.where(new_document, 0, np.where(stopped, 1, 2))
    return place


def _in_quotation(words: WordForms) -> Keys:
    """1 between a quotation mark and the next in a document, 0 elsewhere; -1 for the marks."""
    quote = np.array([form[:1] in _QUOTES for form in words.written_forms], bool)[words.written]
    opened = np.cumsum(quote)
    starts = segment_starts(words.document)
    before = (opened - quote)[starts]
    inside = (opened - np.repeat(before, np.diff(starts, append=len(words)))) % 2
    return np.where(quote, -1, inside).astype(np.int32)


def _word_so_far(words: WordForms, stream: TokenStream) -> Kind:
    """The lower-case text of a word up to the token's end, where that is not the whole form."""
    word = np.asarray(stream.word)
    starts = segment_starts(word)
    begin = np.minimum.reduceat(stream.start, starts) if len(starts) else starts
    length = np.asarray(stream.end) - np.repeat(begin, np.diff(starts, append=len(word)))
    written = words.written[word]
    sizes = np.array([len(form) for form in words.written_forms])
    partial = (length > 0) & (length < sizes[written])
    codes = written[partial].astype(np.int64) << 32 | length[partial]
    distinct, inverse = np.unique(codes, return_inverse=True)
    numbers: dict[str, int] = {}
    of_distinct = np.array(
        [
            numbers.setdefault(
                words.written_forms[code >> 32][: code & 0xFFFFFFFF].lower(), len(numbers)
            )
            for code in distinct.tolist()
        ],
        np.int32,
    )
    key = np.full(len(word), -1, np.int32)
    key[partial] = of_distinct[inverse]
    names = list(numbers)

    def text(keys: Sequence[int]) -> str:
        return SEPARATOR.join(f"{names[key]}…" for key in keys)

    return _kind("word so far", "token", key, len(names), text, most=6, cost=0.03)


def _join(first: str, second: str) -> str:
    """Two forms as they stand in running text."""
    glued = second in _NAMES and second not in ("–", "—", "(", "“", '"')
    return f"{first}{second}" if glued else f"{first} {second}"


def _phrase_pairs(pairs: Sequence[tuple[str, str]]) -> str:
    """`“was” after “there” · “it”`, said with as few words as the pairs (before, form) allow."""
    befores, forms = {before for before, _ in pairs}, {form for _, form in pairs}
    if len(forms) == 1:
        return f"{quoted(pairs[0][1])} after {SEPARATOR.join(quoted(b) for b, _ in pairs)}"
    if len(befores) == 1:
        return f"{SEPARATOR.join(quoted(f) for _, f in pairs)} after {quoted(pairs[0][0])}"
    return SEPARATOR.join(f"{quoted(form)} after {quoted(before)}" for before, form in pairs)
