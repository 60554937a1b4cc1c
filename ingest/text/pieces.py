"""Long texts in pieces that end where a reader would pause, and texts that databases can store."""

from __future__ import annotations

import re
from collections.abc import Iterator

import regex

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

# Searched backwards from the limit.
_BLANK_LINE = regex.compile(r"(?r)\n[^\S\n]*\n")
_LINE_END = regex.compile(r"(?r)\n")
_SPACE = regex.compile(r"(?r)[^\S\r]")
_GRAPHEME = regex.compile(r"\X")
_LONGEST_GRAPHEME = 64


def split_text(text: str, limit: int) -> Iterator[str]:
    """Cut a text into pieces of at most `limit` characters; joined they are the text again.

    Each cut is after the last blank line that ends in the latter half of what is allowed, or else
    after the last line, the last white space, or the last grapheme.
    """
    begin = 0
    while len(text) - begin > limit:
        cut = last_cut(text, begin, begin + limit)
        yield text[begin:cut]
        begin = cut
    yield text[begin:]


def last_cut(text: str, begin: int, limit: int) -> int:
    """Where a piece that begins at `begin` ends, at most at `limit`: see `split_text`."""
    middle = (begin + limit) // 2
    for pattern in (_BLANK_LINE, _LINE_END, _SPACE):
        if (match := pattern.search(text, begin, limit)) and match.end() > middle:
            return int(match.end())
    # The grapheme that holds the character at the limit goes to the next piece whole.
    near = max(middle, limit - _LONGEST_GRAPHEME)
    *_, last = _GRAPHEME.finditer(text, near, limit + 1)
    return int(last.start()) if last.start() > near else limit


def clean(text: str) -> str:
    """The text with U+FFFD for each NUL and lone surrogate."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)
