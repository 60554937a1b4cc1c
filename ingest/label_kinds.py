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

from atlas.ingest.examples import Layout
from atlas.ingest.forms import NEWLINE, NO_SPACE, WordForms
from atlas.ingest.segments import rank_in_segment, segment_starts
from atlas.ingest.tokens import TokenStream

Unit = Literal["word", "token"]
Keys = NDArray[np.int32]

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
    text: Callable[[Sequence[int]], str]
    """Words the label; keys are given with the most telling first."""


def _kind(
    name: str,
    unit: Unit,
    key: NDArray[np.integer],
    n_keys: int,
    most: int,
    text: Callable[[Sequence[int]], str],
) -> Kind:
    """A kind whose `key` is negative where a unit has none."""
    return Kind(name, unit, np.where(key < 0, n_keys, key).astype(np.int32), n_keys, most, text)


def quoted(form: str) -> str:
    """A form in running text: `"dog"`, but `comma` for what quotation marks would hide."""
    return _NAMES.get(form, f'"{form}"')


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
    shown = _display_forms(words)

    def name(key: int) -> str:
        return _NAMES.get(shown[key], shown[key])

    form = words.lower
    n_forms = len(words.lower_forms)
    same_before = np.zeros(len(words), bool)
    same_before[1:] = words.document[1:] == words.document[:-1]
    before = np.full(len(words), -1, np.int32)
    before[1:] = np.where(same_before[1:], form[:-1], -1)
    kinds = [
        _kind(
            "form", "word", form, n_forms, 6, lambda keys: SEPARATOR.join(name(key) for key in keys)
        ),
        _kind(
            "after",
            "word",
            before,
            n_forms,
            3,
            lambda keys: "after " + SEPARATOR.join(quoted(shown[key]) for key in keys),
        ),
        _pairs("form after", before, form, 3, lambda pairs: _phrase_pairs(pairs, shown)),
        _pairs(
            "after two",
            np.where(same_before, np.concatenate([[-1], before[:-1]]), -1),
            before,
            2,
            lambda pairs: (
                "after " + SEPARATOR.join(f'"{_join(shown[a], shown[b])}"' for a, b in pairs)
            ),
        ),
        _affixes(words, 3, ending=True),
        _affixes(words, 2, ending=True),
        _affixes(words, 2, ending=False),
        _affixes(words, 1, ending=False),
        _of_forms(
            "shape",
            words,
            _shape,
            len(_SHAPES),
            2,
            lambda keys: " or ".join(_SHAPES[key] for key in keys),
        ),
        _kind(
            "edge",
            "word",
            words.after.astype(np.int32),
            3,
            1,
            lambda keys: {NO_SPACE: "word with no space after it", NEWLINE: "end of a line"}.get(
                keys[0], "word with a space after it"
            ),
        ),
        _kind(
            "sentence",
            "word",
            _sentence_place(words, same_before),
            3,
            1,
            lambda keys: (
                "first word of a document",
                "first word of a sentence",
                "inside a sentence",
            )[keys[0]],
        ),
        _kind(
            "quotation",
            "word",
            _in_quotation(words),
            2,
            1,
            lambda keys: ("outside quotations", "inside a quotation")[keys[0]],
        ),
        _kind(
            "any", "word", np.zeros(len(words), np.int32), 1, 1, lambda keys: "nearly every word"
        ),
    ]
    return kinds


def token_kinds(
    words: WordForms, stream: TokenStream, vocabulary: Sequence[str], layout: Layout
) -> list[Kind]:
    """Properties of tokens, for what words do not explain."""
    token_id = np.asarray(stream.token_id)
    texts = [_visible(text) for text in vocabulary]
    same_before = np.zeros(len(token_id), bool)
    same_before[1:] = layout.document[1:] == layout.document[:-1]
    before = np.full(len(token_id), -1, np.int32)
    before[1:] = np.where(same_before[1:], token_id[:-1], -1)
    within = _place_in_word(np.asarray(stream.word))
    from_context = np.arange(len(token_id)) - layout.context_first
    # 0, 1, 2-3, 4-7, …
    octave = np.ceil(np.log2(from_context + 1)).astype(np.int32)
    ordinal = ("first", "second", "third", "fourth", "fifth", "sixth or later")
    return [
        _kind(
            "token",
            "token",
            token_id,
            len(texts),
            6,
            lambda keys: "token " + SEPARATOR.join(_token_name(texts[key]) for key in keys),
        ),
        _pairs(
            "token after",
            before,
            token_id,
            4,
            lambda pairs: "end of " + SEPARATOR.join(f'"{texts[a]}{texts[b]}"' for a, b in pairs),
        ),
        _word_so_far(words, stream),
        _kind(
            "place in word",
            "token",
            np.minimum(within, 5).astype(np.int32),
            6,
            1,
            lambda keys: f"{ordinal[keys[0]]} token of a word",
        ),
        _kind(
            "place in context",
            "token",
            octave,
            int(octave.max(initial=0)) + 1,
            1,
            lambda keys: _context_place(keys[0]),
        ),
    ]


def _context_place(octave: int) -> str:
    if octave == 0:
        return "first token of a context"
    first, last = 2 ** (octave - 1) + 1, 2**octave
    return f"token {first} of a context" if first == last else f"tokens {first}–{last} of a context"


def _token_name(text: str) -> str:
    return _NAMES.get(text, f'"{text}"')


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
    before: Keys,
    key: Keys,
    most: int,
    text: Callable[[Sequence[tuple[int, int]]], str],
) -> Kind:
    """A kind whose keys are the distinct pairs (before, key); none where either is -1."""
    unit: Unit = "token" if name.startswith("token") else "word"
    present = (before >= 0) & (key >= 0)
    width = int(key.max(initial=0)) + 1
    codes = before[present].astype(np.int64) * width + key[present]
    distinct, inverse = np.unique(codes, return_inverse=True)
    number = np.full(len(key), -1, np.int32)
    number[present] = inverse
    return _kind(
        name,
        unit,
        number,
        len(distinct),
        most,
        lambda keys: text([divmod(int(distinct[key]), width) for key in keys]),
    )


def _of_forms(
    name: str,
    words: WordForms,
    key_of: Callable[[str], int],
    n_keys: int,
    most: int,
    text: Callable[[Sequence[int]], str],
) -> Kind:
    """A kind whose key depends on the written form alone."""
    keys = np.array([key_of(form) for form in words.written_forms], np.int32)
    return _kind(name, "word", keys[words.written], n_keys, most, text)


def _affixes(words: WordForms, length: int, *, ending: bool) -> Kind:
    """Ending or beginning of `length` letters, for words that are longer."""
    numbers: dict[str, int] = {}

    def key_of(form: str) -> int:
        if len(form) <= length or not form.isalpha():
            return -1
        affix = form.lower()[-length:] if ending else form.lower()[:length]
        return numbers.setdefault(affix, len(numbers))

    keys = [key_of(form) for form in words.written_forms]
    names = list(numbers)

    def text(keys: Sequence[int]) -> str:
        shown = [f"-{names[key]}" if ending else f"{names[key]}-" for key in keys]
        return f"word {'ending' if ending else 'beginning'} in {SEPARATOR.join(shown)}"

    return _kind(
        f"{'ending' if ending else 'beginning'} {length}",
        "word",
        np.array(keys, np.int32)[words.written],
        len(names),
        4,
        text,
    )


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


def _sentence_place(words: WordForms, same_before: NDArray[np.bool_]) -> Keys:
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


def _place_in_word(word: NDArray[np.integer]) -> NDArray[np.int64]:
    return rank_in_segment(segment_starts(word), len(word))


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
    return _kind(
        "word so far",
        "token",
        key,
        len(names),
        6,
        lambda keys: SEPARATOR.join(f"{names[key]}…" for key in keys),
    )


def _join(first: str, second: str) -> str:
    """Two forms as they stand in running text."""
    glued = second in _NAMES and second not in ("–", "—", "(", "“", '"')
    return f"{first}{second}" if glued else f"{first} {second}"


def _phrase_pairs(pairs: Sequence[tuple[int, int]], shown: Sequence[str]) -> str:
    """`"was" after "there" · "it"`, said with as few words as the pairs allow."""
    befores, forms = {a for a, _ in pairs}, {b for _, b in pairs}
    if len(forms) == 1:
        after = SEPARATOR.join(quoted(shown[a]) for a, _ in pairs)
        return f"{quoted(shown[pairs[0][1]])} after {after}"
    if len(befores) == 1:
        form = SEPARATOR.join(quoted(shown[b]) for _, b in pairs)
        return f"{form} after {quoted(shown[pairs[0][0]])}"
    return SEPARATOR.join(f"{quoted(shown[b])} after {quoted(shown[a])}" for a, b in pairs)
