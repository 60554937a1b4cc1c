"""Contexts: the windows of tokens that a language model reads, and batches of them.

A context is a run of consecutive tokens of one document, cut every `context` tokens from the
document's beginning and never reaching into the next one, after BOS where the model wants it. BOS
and padding are read by the model and counted nowhere.

Where several models read the same text (`atlas.ingest.models.joint`), a context of the first has
the others' beside it, and of each only the tokens count that have their like in all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from atlas.errors import BadInput
from atlas.ingest.text.corpus import Document
from atlas.ingest.text.tokens import TokenStream, tokenize_ids

_DOCUMENTS_AT_ONCE = 64
_MOST_PADDED = 4


@dataclass(frozen=True, slots=True)
class Context:
    """Tokens that the model reads together."""

    ids: NDArray[np.int32]
    """(n,) token ids, without BOS."""
    bos_id: int | None
    """Read before them and not counted; None for a model without one."""
    first: int
    """Index of ids[0] in the token stream; -1 where there is none (training)."""
    limit: int
    """How many tokens a context has at most, BOS not counted."""
    counted: NDArray[np.bool_] | None = None
    """(n,) which of the ids count; None: all."""
    beside: tuple[Context, ...] = ()
    """The same text as other models read it; as many of their ids count, in the same order."""

    def __len__(self) -> int:
        """How many tokens the model reads, or the one beside it that reads most; BOS included."""
        own = len(self.ids) + (self.bos_id is not None)
        return max([own, *map(len, self.beside)])

    @property
    def n_counted(self) -> int:
        """How many ids count."""
        return len(self.ids) if self.counted is None else int(self.counted.sum())


@dataclass(frozen=True)
class Batch:
    """Contexts side by side, padded on the right."""

    input_ids: NDArray[np.int64]
    """(n_contexts, longest)"""
    attention_mask: NDArray[np.bool_]
    """(n_contexts, longest) False on padding."""
    keep: NDArray[np.bool_]
    """(n_contexts, longest) the positions that count: neither BOS nor padding."""
    token: NDArray[np.int64]
    """(n_kept,) stream index of each kept position in row-major order; -1 where there is none."""
    beside: tuple[Batch, ...] = ()
    """The same texts as other models read them, with as many kept positions in the same order."""


def contexts(
    ids_per_document: Iterable[NDArray[np.int32]], context: int, bos_id: int | None
) -> Iterator[Context]:
    """Windows of at most `context` tokens (BOS not counted) of each document, in order.

    Stream indices count the tokens of all documents given. A document without tokens has none.
    """
    first = 0
    for ids in ids_per_document:
        for begin in range(0, len(ids), context):
            yield Context(ids[begin : begin + context], bos_id, first + begin, context)
        first += len(ids)


def stream_contexts(stream: TokenStream, context: int, bos_id: int | None) -> Iterator[Context]:
    """The contexts of a whole token stream."""
    bounds = np.flatnonzero(np.diff(stream.document, prepend=-1, append=-1)).tolist()
    documents = (stream.token_id[a:b] for a, b in itertools.pairwise(bounds))
    return contexts(documents, context, bos_id)


def chunks(contexts: Iterable[Context], chunk_tokens: int) -> Iterator[list[Context]]:
    """Lists of consecutive contexts that hold `chunk_tokens` tokens or slightly more, BOS aside."""
    chunk: list[Context] = []
    held = 0
    for context in contexts:
        chunk.append(context)
        held += len(context.ids)
        if held >= chunk_tokens:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def by_length(contexts: Iterable[Context]) -> list[Context]:
    """The longest first, equal ones in their order: batches of these have little padding."""
    return sorted(contexts, key=len, reverse=True)


def batches(
    contexts: Iterable[Context], batch_tokens: int, pad_id: int | Sequence[int]
) -> Iterator[Batch]:
    """Batches that close as soon as they hold `batch_tokens` positions, padding included.

    pad_id: of the model, or of it and of those beside it.

    No context is taken before it is needed: after each batch, the state of a `ContextStream` behind
    it is where the next batch begins. So a long context may come after many short ones and pad them
    all; a batch also closes before that could make it `_MOST_PADDED` times too large. It keeps
    fewer than `batch_tokens` + one context's tokens in any case.
    """
    pad_ids = (pad_id,) if isinstance(pad_id, int) else pad_id
    rows: list[Context] = []
    longest = 0
    for context in contexts:
        rows.append(context)
        longest = max(longest, len(context))
        largest = len(rows) * (context.limit + 1)
        if len(rows) * longest >= batch_tokens or largest >= _MOST_PADDED * batch_tokens:
            yield _pad(rows, pad_ids)
            rows, longest = [], 0
    if rows:
        yield _pad(rows, pad_ids)


def _pad(rows: Sequence[Context], pad_ids: Sequence[int]) -> Batch:
    held = np.array([len(row.ids) for row in rows])
    skipped = np.array([row.bos_id is not None for row in rows])
    column = np.arange((held + skipped).max())
    attention_mask = column < (held + skipped)[:, None]
    keep = attention_mask & (column >= skipped[:, None])
    input_ids = np.full(keep.shape, pad_ids[0], dtype=np.int64)
    input_ids[skipped, 0] = [row.bos_id for row in rows if row.bos_id is not None]
    input_ids[keep] = np.concatenate([row.ids for row in rows])
    # Position in its own context, then from the context's place in the stream.
    within = np.arange(held.sum()) - np.repeat(held.cumsum() - held, held)
    first = np.repeat(np.array([row.first for row in rows]), held)
    token = np.where(first < 0, -1, first + within)
    if any(row.counted is not None for row in rows):
        counted = np.concatenate(
            [np.ones(len(row.ids), bool) if row.counted is None else row.counted for row in rows]
        )
        keep[keep] = counted
        token = token[counted]
    beside = tuple(
        _pad([row.beside[i] for row in rows], [other]) for i, other in enumerate(pad_ids[1:])
    )
    return Batch(input_ids, attention_mask, keep, token, beside)


class StreamState(TypedDict):
    """Where a `ContextStream` stands: the next context it yields. Fit for JSON."""

    epoch: int
    document: int
    """Ordinal of the document in the corpus."""
    window: int
    """Ordinal of the context in the document."""
    saw_reference: bool


class ContextStream(Iterator[Context]):
    """Contexts of a corpus for training: without end, resumable at each of them.

    The first `skip_documents` documents are the reference on which features are measured, and kept
    out of training. At the end of the corpus it starts over; where what is left of the corpus has
    fewer characters than the reference, the reference is included from then on.

    `corpus` is iterated once an epoch (`atlas.ingest.text.corpus.Corpus`). BadInput where it has no
    text or no tokens, or has become shorter than the state says.
    """

    def __init__(
        self,
        corpus: Iterable[Document],
        tokenizer: Any,
        context: int,
        *,
        bos_id: int | None = None,
        skip_documents: int = 0,
    ) -> None:
        self._corpus = corpus
        self._tokenizer = tokenizer
        self._context = context
        self._bos_id = bos_id
        self._skip_documents = skip_documents
        self.restore(StreamState(epoch=0, document=0, window=0, saw_reference=False))

    def __next__(self) -> Context:
        return next(self._contexts)

    @property
    def saw_reference(self) -> bool:
        """Whether reference documents are among those trained on by now."""
        return self._state["saw_reference"]

    def state(self) -> StreamState:
        """Where it stands; `restore` makes the same contexts follow, in any process."""
        return self._state.copy()

    def restore(self, state: StreamState) -> None:
        """Go to a place that `state` gave, for the same corpus, tokenizer and settings."""
        self._state = state.copy()
        self._contexts = self._run()

    def cut(self, texts: Sequence[str]) -> Iterable[Sequence[Context]]:
        """The contexts of each text, which are in no stream."""
        for ids in tokenize_ids(self._tokenizer, texts):
            begins = range(0, len(ids), self._context)
            windows = (ids[begin : begin + self._context] for begin in begins)
            yield [Context(one, self._bos_id, -1, self._context) for one in windows]

    def _run(self) -> Iterator[Context]:
        while True:
            state, skip = self._state, self._skip_documents
            first = 0 if state["saw_reference"] else skip
            resumed, window = state["document"], state["window"]
            found = window > 0
            sizes = _Sizes()
            for some in _batched(self._documents(max(first, resumed), sizes)):
                cut = self.cut([text for _, text in some])
                for (ordinal, _), windows in zip(some, cut, strict=True):
                    for number in range(window, len(windows)):
                        found = True
                        state["document"] = ordinal
                        state["window"] = number + 1
                        yield windows[number]
                    window = 0
            if resumed >= sizes.documents:
                raise BadInput(
                    "The corpus has fewer documents than when this training began; give it as it "
                    "was then."
                )
            if not found and first == 0:
                raise BadInput("The tokenizer makes no tokens of the corpus; give another corpus.")
            self._state = StreamState(
                epoch=state["epoch"] + 1,
                document=0,
                window=0,
                saw_reference=state["saw_reference"] or not found or sizes.rest < sizes.reference,
            )

    def _documents(self, first: int, sizes: _Sizes) -> Iterator[tuple[int, str]]:
        """(ordinal, text) from document `first` on; counts all, those before it too."""
        for ordinal, document in enumerate(self._corpus):
            sizes.documents += 1
            if ordinal < self._skip_documents:
                sizes.reference += len(document.text)
            else:
                sizes.rest += len(document.text)
            if ordinal >= first:
                yield ordinal, document.text


@dataclass
class _Sizes:
    """What one pass over the corpus has met."""

    documents: int = 0
    reference: int = 0
    """Characters in the documents to skip."""
    rest: int = 0
    """Characters in the others."""


def _batched(documents: Iterator[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    while some := list(itertools.islice(documents, _DOCUMENTS_AT_ONCE)):
        yield some
