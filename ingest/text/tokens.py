"""Tokens of texts, with the characters that each one covers and the word that it belongs to.

The text is taken as it stands: no special token is added, and what looks like one ("<s>",
"<|endoftext|>") is ordinary text. Character offsets count code points.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import shutil
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.decoders import BPEDecoder
from tokenizers.models import BPE

from atlas.errors import BadInput

_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
"""A byte that a sentencepiece vocabulary falls back on."""

_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")

_CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Characters that a terminal would obey rather than show."""

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_BYTE_OF = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(0x100 + i): byte for i, byte in enumerate(sorted({*range(0x100)} - {*_PRINTABLE}))
}
"""The alphabet of byte-level BPE (GPT-2): printable bytes stand for themselves, the others for the
characters from U+0100 on."""


class Encoded(NamedTuple):
    """The tokens of one text."""

    ids: NDArray[np.int32]
    """(n,) token ids."""
    start: NDArray[np.int32]
    """(n,) first character covered."""
    end: NDArray[np.int32]
    """(n,) one past the last character covered; equal to `start` where a token covers none."""


@dataclass(frozen=True)
class TokenStream:
    """All tokens of a sequence of documents under one tokenizer, document by document.

    BOS and padding are no tokens of the stream. Words are numbered through all documents.
    """

    token_id: NDArray[np.int32]
    """(n,)"""
    start: NDArray[np.int32]
    """(n,) first character covered, in the document."""
    end: NDArray[np.int32]
    """(n,) one past the last character covered."""
    document: NDArray[np.int64]
    """(n,) ascending."""
    position: NDArray[np.int32]
    """(n,) 0, 1, … in each document."""
    word: NDArray[np.int64]
    """(n,) the word that the token's last character falls in."""

    def __len__(self) -> int:
        return len(self.token_id)

    def save(self, folder: Path) -> None:
        """Write each field as FIELD.npy; the folder appears, or is replaced, only when complete."""
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for field in fields(self):
            np.save(part / f"{field.name}.npy", getattr(self, field.name))
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)

    @classmethod
    def load(cls, folder: Path) -> TokenStream:
        """What `save` wrote, mapped into memory rather than read."""
        return cls(*(np.load(folder / f"{f.name}.npy", mmap_mode="r") for f in fields(cls)))


_plain_tokenizers: weakref.WeakKeyDictionary[Any, Tokenizer] = weakref.WeakKeyDictionary()


def _plain(tokenizer: Any) -> Tokenizer:
    """A private copy of a transformers tokenizer's Rust core that takes a text as it stands.

    Without truncation, padding, dropout (merges left out at random) and recognition of special
    tokens. Without the post-processor too: it adds special tokens, and the one of GPT-2 cuts the
    leading space out of a token's offsets. Copied once, so it must not change afterwards.
    """
    if tokenizer not in _plain_tokenizers:
        core = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(core, Tokenizer):
            name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
            raise BadInput(
                f"The tokenizer of {name} is not a fast one, so the characters behind its tokens "
                "are unknown; save it with a tokenizer.json or choose another model."
            )
        plain = Tokenizer.from_str(core.to_str())
        plain.no_truncation()
        plain.no_padding()
        plain.post_processor = None
        plain.encode_special_tokens = True
        if isinstance(plain.model, BPE):
            plain.model.dropout = None
        _plain_tokenizers[tokenizer] = plain
    return _plain_tokenizers[tokenizer]


def tokenize_documents(tokenizer: Any, texts: Sequence[str]) -> list[Encoded]:
    """Tokens and character offsets of each text.

    `tokenizer` is a fast tokenizer of transformers; BadInput if it is a slow one. Several tokens
    can cover the same character (the bytes of an emoji; Llama's leading "▁" and the first letter).
    """
    encoded = []
    for one in _plain(tokenizer).encode_batch(texts, add_special_tokens=False):
        ids = np.array(one.ids, dtype=np.int32)
        flat = itertools.chain.from_iterable(one.offsets)
        offsets = np.fromiter(flat, dtype=np.int32, count=2 * len(ids))
        encoded.append(Encoded(ids, offsets[0::2], offsets[1::2]))
    return encoded


def tokenize_ids(tokenizer: Any, texts: Sequence[str]) -> list[NDArray[np.int32]]:
    """The ids of `tokenize_documents` alone, faster."""
    encoded = _plain(tokenizer).encode_batch_fast(texts, add_special_tokens=False)
    return [np.array(one.ids, dtype=np.int32) for one in encoded]


def align(
    start: NDArray[np.integer],
    end: NDArray[np.integer],
    word_start: NDArray[np.integer],
    word_end: NDArray[np.integer],
) -> NDArray[np.int64]:
    """(n_tokens,) the word that the last character of each token falls in, counted from 0.

    A token that covers no character belongs to the word of the character before it (at the very
    beginning, to the first word). Tokens and words, as `word_spans` gives them, are of one text;
    ValueError where a token ends outside its words.
    """
    last = np.maximum(np.where(end > start, end, start) - 1, 0)
    word: NDArray[np.int64] = np.searchsorted(word_start, last, side="right") - 1
    if len(last) and (word.min() < 0 or (last >= word_end[word]).any()):
        raise ValueError("a token ends outside the words: they are not of the same text")
    return word


def tokenizer_hash(tokenizer: Any) -> str:
    """sha256 of all that decides the tokens of a text and how they read.

    Equal for the tokenizers of two models that differ only in the special tokens they add.
    """
    return hashlib.sha256(_plain(tokenizer).to_str().encode()).hexdigest()


def vocabulary_texts(tokenizer: Any) -> list[str]:
    """How each token id reads in running text: " the", "ing", "<0x0A>" for a lone byte.

    One text an id, from 0 to the largest; empty where the tokenizer has no such id. Control
    characters, and bytes that are no UTF-8 by themselves, are written <0xE2>, one by one.
    """
    plain = _plain(tokenizer)
    vocabulary = sorted(plain.get_vocab().items(), key=lambda item: item[1])
    texts = [""] * (vocabulary[-1][1] + 1 if vocabulary else 0)
    added = plain.get_added_tokens_decoder()
    ordinary = [(piece, i) for piece, i in vocabulary if i not in added]
    for i, token in added.items():
        texts[i] = token.content
    for (piece, i), read in zip(ordinary, _read_pieces(plain, ordinary), strict=True):
        texts[i] = read if "\ufffd" not in read or "\ufffd" in piece else _read_bytes(piece)
    return [_CONTROL.sub(lambda match: f"<0x{ord(match[0]):02X}>", text) for text in texts]


def _read_pieces(plain: Tokenizer, pieces: list[tuple[str, int]]) -> list[str]:
    """What each vocabulary piece adds to a text that it is decoded in."""
    if plain.decoder is None:
        return [piece for piece, _ in pieces]
    if isinstance(plain.decoder, BPEDecoder):  # GPT-1: "the</w>" ends a word, "th" does not
        return [piece.replace(plain.decoder.suffix, " ") for piece, _ in pieces]
    # Decoders treat the first token of a text in their own way (Llama's loses its space), so each
    # piece is decoded after a letter, which is then cut off.
    letter = [i for piece, i in pieces if piece.isascii() and piece.isalpha()][:1]
    before = plain.decode(letter, skip_special_tokens=False)
    together = plain.decode_batch([[*letter, i] for _, i in pieces], skip_special_tokens=False)
    return [
        text.removeprefix(before)
        if text.startswith(before) and not _BYTE_TOKEN.fullmatch(piece)
        else piece
        for (piece, _), text in zip(pieces, together, strict=True)
    ]


def _read_bytes(piece: str) -> str:
    """A byte-level piece that is no whole UTF-8: what can be decoded, the other bytes as <0xE2>."""
    if not all(character in _BYTE_OF for character in piece):
        return piece
    text = bytes(_BYTE_OF[character] for character in piece).decode("utf-8", "surrogateescape")
    return _ESCAPED_BYTE.sub(lambda match: f"<0x{ord(match[0]) - 0xDC00:02X}>", text)
