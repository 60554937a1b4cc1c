"""Words: spans of characters that no tokenizer decides, on which models with different ones meet.

A word follows Unicode's default word boundaries (UAX #29), with the white space after it: every
character of a text lies in exactly one word. White space that opens a text is a word of its own,
whose form is empty. Scripts written without spaces come out as UAX #29 has them: each Han or
Hiragana character is a word, a run of Katakana is one.
"""

from __future__ import annotations

import numpy as np
import regex
from numpy.typing import NDArray

_WORD_BEGIN = regex.compile(r"\b\S", regex.WORD)
"""The first character of a word: after a default word boundary, and no white space.

A mark that combines with a space before it is no beginning: the boundary is before the space.
"""

_WHITE_SPACE = "".join(regex.findall(r"\s", "".join(map(chr, range(0x3001)))))
"""Unicode's White_Space; `str.rstrip()` alone would also take the separators U+001C to U+001F."""


def word_spans(text: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Start and end, one past the last character, of each word: two arrays (n_words,), ascending.

    They tile the text: start[0] is 0, each start is the end before it, the last end is len(text).
    An empty text has no words.
    """
    starts = [match.start() for match in _WORD_BEGIN.finditer(text)]
    if text and (not starts or starts[0] > 0):
        starts.insert(0, 0)
    bounds = np.array([*starts, len(text)], dtype=np.int32)
    return bounds[:-1], bounds[1:]


def word_form(text: str, start: int, end: int) -> str:
    """The word text[start:end] without the white space that ends it."""
    return text[start:end].rstrip(_WHITE_SPACE)
