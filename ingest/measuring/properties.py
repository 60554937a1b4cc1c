"""Properties of tokens that text alone decides: what k-sparse probes look for in an SAE.

`sql/views/probe_scores.sql` says what each one means.
"""

from __future__ import annotations

import unicodedata

import numpy as np
from numpy.typing import NDArray

from atlas.ingest.text.reference import Reference
from atlas.ingest.text.tokens import TokenStream

Bools = NDArray[np.bool_]

_EARLY = 16
_SPACE, _LINE_BREAK, _UPPER, _DIGIT, _WORD, _PUNCTUATION = (1 << bit for bit in range(6))


def token_properties(reference: Reference, stream: TokenStream, context: int) -> dict[str, Bools]:
    """Each property, (n_tokens,): whether a token has it.

    stream: the reference's tokens, read in contexts of `context`.
    """
    document, word = np.asarray(stream.document), np.asarray(stream.word)
    position = np.asarray(stream.position)
    first = np.ones(len(word), bool)
    first[1:] = word[1:] != word[:-1]
    written = _written(reference, stream)
    return {
        "first_of_word": first,
        # The last token of a document ends a word too.
        "last_of_word": np.append(first[1:], True),
        **written,
        **{f"next_{name}": _next(has, document) for name, has in written.items()},
        "early_in_document": position < _EARLY,
        "late_in_context": position % context >= context / 2,
    }


def _next(has: Bools, document: NDArray[np.int64]) -> Bools:
    """Whether the next token of the same document has it."""
    follows = np.zeros(len(has), bool)
    follows[:-1] = has[1:] & (document[1:] == document[:-1])
    return follows


def _written(reference: Reference, stream: TokenStream) -> dict[str, Bools]:
    """What the characters of each token decide."""
    kinds = np.zeros(0x110000, np.uint8)
    known = np.zeros(0x110000, bool)
    bounds = np.searchsorted(stream.document, np.arange(len(reference.documents) + 1)).tolist()
    found: list[dict[str, Bools]] = []
    for document, first, last in zip(reference.documents, bounds, bounds[1:], strict=False):
        code = np.frombuffer(document.text.encode("utf-32-le", "surrogatepass"), "<u4")
        new = np.unique(code[~known[code]])
        kinds[new] = [_kind(chr(point)) for point in new.tolist()]
        known[new] = True
        found.append(_in_document(kinds[code], stream.start[first:last], stream.end[first:last]))
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def _in_document(
    kind: NDArray[np.uint8], start: NDArray[np.int32], end: NDArray[np.int32]
) -> dict[str, Bools]:
    """Of tokens with spans (n,) in a document whose characters are of the kinds (n_characters,)."""

    def holds(bits: int) -> Bools:
        before = np.concatenate([[0], np.cumsum(kind & bits > 0)])
        return before[end] > before[start]

    visible = np.append(np.flatnonzero(kind & _SPACE == 0), len(kind))
    leading = visible[np.searchsorted(visible, start)]
    capital = np.append(kind & _UPPER > 0, False)[leading] & (leading < end)
    return {
        "capital": capital,
        "digit": holds(_DIGIT),
        "punctuation": holds(_PUNCTUATION) & ~holds(_WORD),
        "line_break": holds(_LINE_BREAK),
    }


def _kind(character: str) -> int:
    category = unicodedata.category(character)
    kind = 0
    if character.isspace():
        kind |= _SPACE
    if character == "\n":
        kind |= _LINE_BREAK
    if category in ("Lu", "Lt"):
        kind |= _UPPER
    if category == "Nd":
        kind |= _DIGIT
    if category[0] in "LMN":
        kind |= _WORD
    if category[0] == "P":
        kind |= _PUNCTUATION
    return kind
