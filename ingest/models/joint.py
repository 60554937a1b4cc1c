"""Several language models read side by side, so that one dictionary can be for all of them.

What makes positions of different tokenizers comparable is the word (`atlas.ingest.text.words`): a
model has read a word at its last token, and there the activations of all models belong together,
as those of one token do in a crosscoder over layers (Lindsey et al. 2024, "Sparse Crosscoders for
Cross-Layer Features and Model Diffing", who compare models with one tokenizer, token by token).

A document is cut into windows of whole words, each as long as fits the context of every model, so
that all of them read the same text. A word counts that has a last token in every tokenizer. Left
out are words without one (a token that reaches over the word's end belongs to the next word) and
words that alone are longer than a context.

Models with one and the same tokenizer meet on tokens instead, and none is left out: what is said
of words here is then true of tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint
from atlas.ingest.text.contexts import Batch, Context, ContextStream, stream_contexts
from atlas.ingest.text.corpus import Document
from atlas.ingest.text.tokens import (
    TokenStream,
    align,
    tokenize_documents,
    tokenize_ids,
    tokenizer_hash,
)
from atlas.ingest.text.words import word_spans


class Ensemble:
    """Language models, the first of which SAEs are named after; the others are partners.

    It stands for a `LanguageModel` where activations are read. The partners' hook points bear their
    model's name, the first one's none.
    """

    def __init__(self, first: LanguageModel, partners: Sequence[LanguageModel]) -> None:
        self.first = first
        self.partners = tuple(partners)
        self.name = first.name
        self.device: torch.device = first.device
        self.pad_id = tuple(model.pad_id for model in self.members)

    @property
    def members(self) -> tuple[LanguageModel, ...]:
        """All of them, the first one first."""
        return (self.first, *self.partners)

    @property
    def names(self) -> tuple[str, ...]:
        """What hook points call each member (`HookPoint.model`)."""
        return ("", *(model.name for model in self.partners))

    @cached_property
    def one_tokenizer(self) -> bool:
        """Whether all of them cut texts into the same tokens."""
        return len({tokenizer_hash(model.tokenizer) for model in self.members}) == 1

    def width(self, point: HookPoint) -> int:
        """The length of the activations at `point`; BadInput if its model has no such point."""
        return self.member(point).width(point)

    def member(self, point: HookPoint) -> LanguageModel:
        """The model that a point is of."""
        return self.members[self.names.index(point.model)]

    def run(self, batch: Batch, points: Sequence[HookPoint]) -> list[Tensor]:
        """As `LanguageModel.run`: float32 (n_keep, width) at each point, row by row of one word."""
        found: dict[HookPoint, Tensor] = {}
        for model, own in zip(self.members, (batch, *batch.beside), strict=True):
            of_model = [point for point in points if self.member(point) is model]
            found |= zip(of_model, model.run(own, of_model), strict=True)
        return [found[point] for point in points]


Reader = LanguageModel | Ensemble
"""What activations come from."""


def members_of(model: Reader) -> tuple[LanguageModel, ...]:
    """The models of an ensemble, or the one that is none."""
    return model.members if isinstance(model, Ensemble) else (model,)


@dataclass(frozen=True)
class ReadText:
    """One document as one model reads it."""

    ids: NDArray[np.int32]
    """(n,) token ids."""
    word: NDArray[np.int64]
    """(n,) the word of the document, counted from 0, that each token's last character falls in."""
    bos_id: int | None
    first: int = -1
    """Index of ids[0] in the token stream; -1 where there is none."""


def word_windows(readings: Sequence[ReadText], n_words: int, context: int) -> Iterator[Context]:
    """Windows of a document of `n_words` words, at most `context` tokens (BOS aside) in any model.

    Each is a context of the first model with those of the others beside it. The counted tokens are
    the last ones of the words that all models have one of, in the order of the words. Windows
    without any are left out.
    """
    words = np.arange(n_words + 1)
    # A token of an earlier word than one before it (offsets can go backwards) is read with the
    # later one, and ends no word.
    sorted_words = [np.maximum.accumulate(one.word) for one in readings]
    begins = [np.searchsorted(one, words) for one in sorted_words]
    there = np.ones(n_words, bool)
    for reading, begin in zip(readings, begins, strict=True):
        last = np.maximum(begin[1:] - 1, 0)
        there &= (begin[1:] > begin[:-1]) & (np.append(reading.word, -1)[last] == words[:-1])
    a = 0
    while a < n_words:
        b = min(int(np.searchsorted(one, one[a] + context, "right")) - 1 for one in begins)
        counted = a + np.flatnonzero(there[a:b])
        if len(counted):
            own, *beside = (
                _window(*one, a, b, counted, context) for one in zip(readings, begins, strict=True)
            )
            yield Context(own.ids, own.bos_id, own.first, context, own.counted, tuple(beside))
        a = max(b, a + 1)


def _window(
    reading: ReadText,
    begins: NDArray[np.int64],
    a: int,
    b: int,
    words: NDArray[np.int64],
    context: int,
) -> Context:
    """The tokens of the words a … b - 1, of which the last ones of `words` count."""
    start, stop = int(begins[a]), int(begins[b])
    counted = np.zeros(stop - start, bool)
    counted[begins[words + 1] - 1 - start] = True
    first = reading.first if reading.first < 0 else reading.first + start
    return Context(reading.ids[start:stop], reading.bos_id, first, context, counted)


class JointStream(ContextStream):
    """The contexts of a corpus for training, for several models; see `ContextStream`."""

    def __init__(
        self,
        corpus: Iterable[Document],
        models: Ensemble,
        context: int,
        *,
        skip_documents: int = 0,
    ) -> None:
        self._models, self._limit = models, context
        first = models.first
        super().__init__(
            corpus, first.tokenizer, context, bos_id=first.bos_id, skip_documents=skip_documents
        )

    def cut(self, texts: Sequence[str]) -> Iterator[Sequence[Context]]:
        """The windows of each text."""
        members = self._models.members
        if self._models.one_tokenizer:
            for ids in tokenize_ids(members[0].tokenizer, texts):
                token = np.arange(len(ids))
                readings = [ReadText(ids, token, model.bos_id) for model in members]
                yield list(word_windows(readings, len(ids), self._limit))
            return
        encoded = [tokenize_documents(model.tokenizer, texts) for model in members]
        for text, *of_models in zip(texts, *encoded, strict=True):
            start, end = word_spans(text)
            readings = [
                ReadText(one.ids, align(one.start, one.end, start, end), model.bos_id)
                for model, one in zip(members, of_models, strict=True)
            ]
            yield list(word_windows(readings, len(start), self._limit))


@dataclass(frozen=True)
class JointText:
    """The reference corpus as each model of an ensemble reads it, the first one first."""

    models: Ensemble
    streams: tuple[TokenStream, ...]
    n_words: int

    def __len__(self) -> int:
        """The most positions that can count."""
        return len(self.streams[0]) if self.models.one_tokenizer else self.n_words

    def windows(self, context: int) -> Iterator[Context]:
        """Those of all documents, in order, of at most `context` tokens in any model."""
        n_documents = max(int(one.document.max(initial=-1)) for one in self.streams) + 1
        ordinals = np.arange(n_documents + 1)
        bounds = [np.searchsorted(one.document, ordinals) for one in self.streams]
        for document in range(n_documents):
            spans = [slice(*one[document : document + 2].tolist()) for one in bounds]
            if all(span.start < span.stop for span in spans):
                yield from self._windows_of(spans, context)

    def _windows_of(self, spans: Sequence[slice], context: int) -> Iterator[Context]:
        """Those of the document whose tokens lie there in each stream."""
        if self.models.one_tokenizer:
            words = [np.arange(spans[0].stop - spans[0].start)] * len(spans)
        else:
            words = [one.word[span] for one, span in zip(self.streams, spans, strict=True)]
        # Words are numbered through the corpus.
        first_word = min(int(one.min()) for one in words)
        n_words = max(int(one.max()) for one in words) + 1 - first_word
        readings = [
            ReadText(stream.token_id[span], word - first_word, model.bos_id, span.start)
            for model, stream, span, word in zip(
                self.models.members, self.streams, spans, words, strict=True
            )
        ]
        return word_windows(readings, n_words, context)


def reference_contexts(
    model: Reader, text: TokenStream | JointText, context: int
) -> Iterator[Context]:
    """The contexts of the reference corpus, for one model or for those of a joint text."""
    if isinstance(text, JointText):
        return text.windows(context)
    assert isinstance(model, LanguageModel)
    return stream_contexts(text, context, model.bos_id)
