"""The reference corpus: chosen by an atlas's first ingest, and the same for every later model."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.errors import BadInput
from atlas.ingest.text.corpus import Corpus, Document
from atlas.ingest.text.tokens import TokenStream, align, tokenize_documents
from atlas.ingest.text.words import word_spans
from atlas.store import Atlas

_DOCUMENTS_AT_ONCE = 64


@dataclass(frozen=True)
class Reference:
    """Documents and their words.

    Words are numbered through the whole corpus: document i has words
    first_word[i] … first_word[i + 1] - 1.
    """

    name: str
    source: str
    documents: tuple[Document, ...]
    first_word: NDArray[np.int64]
    """(n_documents + 1,)"""
    word_start: NDArray[np.int32]
    """(n_words,) first character of the word in its document."""
    word_end: NDArray[np.int32]
    """(n_words,) one past its last character, white space included."""

    @property
    def n_words(self) -> int:
        """How many words the corpus has."""
        return int(self.first_word[-1])

    @property
    def n_characters(self) -> int:
        """How many characters (code points) the documents have."""
        return sum(len(document.text) for document in self.documents)

    def as_corpus(self) -> Corpus:
        """The same documents as a text to train on."""
        return Corpus(
            self.name, self.source, lambda: ((one.source, one.text) for one in self.documents)
        )

    @property
    def sha256(self) -> str:
        """Identity of the texts, whatever files they came from."""
        return texts_sha256(document.text for document in self.documents)


def texts_sha256(texts: Iterable[str]) -> str:
    """sha256 over the texts in order, each followed by a zero byte."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def choose(corpus: Corpus, tokenizer: Any, n_tokens: int) -> Reference:
    """The corpus's first documents, until the tokenizer makes at least `n_tokens` of them.

    All of them where the corpus is shorter; BadInput where it holds no text.
    """
    chosen: list[Document] = []
    counted = 0
    for some in _batches(corpus, _DOCUMENTS_AT_ONCE):
        encoded = tokenize_documents(tokenizer, [document.text for document in some])
        for document, one in zip(some, encoded, strict=True):
            if counted >= n_tokens:
                break
            chosen.append(document)
            counted += len(one.ids)
        if counted >= n_tokens:
            break
    return build(corpus.name, corpus.source, chosen)


def build(name: str, source: str, documents: Sequence[Document]) -> Reference:
    """Find the words of documents; BadInput if there are none."""
    if not documents:
        raise BadInput(f"The corpus {source} holds no text; give one that does with --corpus.")
    starts, ends, counts = [], [], [0]
    for document in documents:
        start, end = word_spans(document.text)
        starts.append(np.asarray(start, np.int32))
        ends.append(np.asarray(end, np.int32))
        counts.append(len(start))
    return Reference(
        name,
        source,
        tuple(documents),
        np.cumsum(counts, dtype=np.int64),
        np.concatenate(starts),
        np.concatenate(ends),
    )


def of_atlas(atlas: Atlas) -> Reference | None:
    """The reference corpus that an atlas holds already; None for an empty atlas."""
    found = atlas.row("select name, source from corpora where corpus_id = 0")
    if found is None:
        return None
    name, source = found
    documents = [
        Document(source=where, text=text)
        for where, text in atlas.rows("select source, text from documents order by document_id")
    ]
    return build(name, source, documents)


def begins_with(corpus: Corpus, reference: Reference) -> bool:
    """Whether the corpus's first documents are the reference's."""
    first = itertools.islice(iter(corpus), len(reference.documents))
    return texts_sha256(document.text for document in first) == reference.sha256


def stream(reference: Reference, tokenizer: Any) -> TokenStream:
    """Every document of the reference as one tokenizer's tokens, each with its word."""
    ids, starts, ends, documents, positions, words = [], [], [], [], [], []
    number = 0
    for some in _batches(reference.documents, _DOCUMENTS_AT_ONCE):
        for one in tokenize_documents(tokenizer, [document.text for document in some]):
            first, last = reference.first_word[number : number + 2]
            word = align(
                one.start, one.end, reference.word_start[first:last], reference.word_end[first:last]
            )
            n = len(one.ids)
            ids.append(one.ids)
            starts.append(one.start)
            ends.append(one.end)
            documents.append(np.full(n, number, np.int64))
            positions.append(np.arange(n, dtype=np.int32))
            words.append(word.astype(np.int64) + first)
            number += 1
    return TokenStream(
        token_id=np.concatenate(ids).astype(np.int32),
        start=np.concatenate(starts).astype(np.int32),
        end=np.concatenate(ends).astype(np.int32),
        document=np.concatenate(documents),
        position=np.concatenate(positions),
        word=np.concatenate(words),
    )


def _batches(documents: Iterable[Document], size: int) -> Iterator[list[Document]]:
    iterator = iter(documents)
    while some := list(itertools.islice(iterator, size)):
        yield some
