"""Contexts: windows of one document each, batches that count every token once, exact resume."""

from __future__ import annotations

import json
from itertools import groupby, islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from atlas.errors import BadInput
from atlas.ingest.text.contexts import (
    ContextStream,
    batches,
    by_length,
    chunks,
    contexts,
    stream_contexts,
)
from atlas.ingest.text.corpus import Document
from atlas.ingest.text.tokens import TokenStream

PAD, BOS = 77, 99

DOCUMENTS = st.lists(st.integers(0, 25), max_size=8).map(
    lambda lengths: [np.arange(n, dtype=np.int32) + 1000 * (i + 1) for i, n in enumerate(lengths)]
)
"""Token ids tell document and position."""

BOS_OR_NOT = st.sampled_from([None, BOS])


@given(DOCUMENTS, st.integers(1, 9), BOS_OR_NOT)
def test_contexts_are_consecutive_and_never_cross_documents(documents, context, bos_id):
    found = list(contexts(documents, context, bos_id))
    everything = np.concatenate([np.zeros(0, np.int32), *documents])
    assert (
        np.concatenate([np.zeros(0, int), *(c.ids for c in found)]).tolist() == everything.tolist()
    )
    for one in found:
        assert 1 <= len(one.ids) <= context
        assert len(one) == len(one.ids) + (bos_id is not None)
        assert len(set(one.ids // 1000)) == 1
        assert everything[one.first : one.first + len(one.ids)].tolist() == one.ids.tolist()
    # Only a document's last context is shorter.
    for _, of_document in groupby(found, key=lambda one: one.ids[0] // 1000):
        assert all(len(one.ids) == context for one in list(of_document)[:-1])


@given(DOCUMENTS, st.integers(1, 9), BOS_OR_NOT)
def test_a_stream_has_the_contexts_of_its_documents(documents, context, bos_id):
    ids = np.concatenate([np.zeros(0, np.int32), *documents])
    zeros = np.zeros(len(ids), np.int32)
    of = np.repeat(np.arange(len(documents)), [len(d) for d in documents])
    stream = TokenStream(ids, zeros, zeros, of, zeros, zeros.astype(np.int64))
    for a, b in zip(
        stream_contexts(stream, context, bos_id), contexts(documents, context, bos_id), strict=True
    ):
        assert (a.ids.tolist(), a.bos_id, a.first) == (b.ids.tolist(), b.bos_id, b.first)


@given(DOCUMENTS, st.integers(1, 9), BOS_OR_NOT, st.integers(1, 60), st.booleans())
def test_batches_keep_every_token_once(documents, context, bos_id, batch_tokens, is_sorted):
    given_contexts = list(contexts(documents, context, bos_id))
    order = by_length(given_contexts) if is_sorted else given_contexts
    everything = np.concatenate([np.zeros(0, np.int32), *documents])
    seen = []
    rows = 0
    for batch in batches(order, batch_tokens, PAD):
        assert batch.input_ids.dtype == batch.token.dtype == np.int64
        assert batch.keep.dtype == batch.attention_mask.dtype == bool
        assert batch.input_ids.shape == batch.keep.shape == batch.attention_mask.shape
        assert everything[batch.token].tolist() == batch.input_ids[batch.keep].tolist()
        assert (batch.input_ids[~batch.attention_mask] == PAD).all()
        uncounted = batch.attention_mask & ~batch.keep
        assert (batch.input_ids[uncounted] == BOS).all()
        assert (uncounted[:, 0] == (bos_id is not None)).all()
        assert not uncounted[:, 1:].any()
        assert (np.diff(batch.attention_mask.astype(int), axis=1) <= 0).all()  # padded on the right
        assert batch.attention_mask.any(axis=0).all()  # and no wider than the longest
        seen += batch.token.tolist()
        rows += len(batch.input_ids)
    assert sorted(seen) == list(range(len(everything)))
    assert rows == len(given_contexts)


@given(DOCUMENTS, st.integers(1, 9), st.integers(1, 60))
def test_a_batch_closes_at_its_size(documents, context, batch_tokens):
    made = list(batches(contexts(documents, context, None), batch_tokens, PAD))
    for batch in made:
        assert batch.input_ids.size < 4 * batch_tokens + context
        assert batch.keep.sum() < batch_tokens + context
        held = batch.attention_mask[:-1]  # it was not full before its last context
        assert len(held) * held.sum(axis=1).max(initial=0) < batch_tokens
    for batch in made[:-1]:
        rows = len(batch.input_ids)
        assert batch.input_ids.size >= batch_tokens or rows * (context + 1) >= 4 * batch_tokens


def test_a_long_context_after_many_short_ones_pads_no_huge_batch():
    lengths = [1] * 299 + [50] + [1] * 301
    documents = [np.zeros(n, np.int32) for n in lengths]
    made = list(batches(contexts(documents, 50, BOS), 200, PAD))
    assert max(batch.input_ids.size for batch in made) <= 4 * 200 + 51
    assert sum(batch.keep.sum() for batch in made) == 650


@given(DOCUMENTS, st.integers(1, 9), st.integers(1, 40))
def test_chunks_are_the_contexts_in_order(documents, context, chunk_tokens):
    expected = [one.first for one in contexts(documents, context, BOS)]
    found = list(chunks(contexts(documents, context, BOS), chunk_tokens))
    assert [one.first for chunk in found for one in chunk] == expected
    sizes = [sum(len(one.ids) for one in chunk) for chunk in found]
    assert all(chunk_tokens <= size < chunk_tokens + context for size in sizes[:-1])


def test_contexts_without_a_place_in_a_stream_have_token_minus_one():
    [batch] = batches(islice(training(["abcde", "fg"], context=3), 3), 100, PAD)
    assert batch.token.tolist() == [-1] * 7


def test_by_length_is_stable():
    documents = [np.zeros(n, np.int32) for n in (1, 3, 2, 3, 1)]
    ordered = by_length(contexts(documents, 9, None))
    assert [(len(c), c.first) for c in ordered] == [(3, 1), (3, 6), (2, 4), (1, 0), (1, 9)]


# The training stream

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ "
TOKENIZER = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.BPE({c: i for i, c in enumerate(ALPHABET)}, []))
)
"""One token a character; characters outside the alphabet have none."""


def training(texts, context=3, skip_documents=0, bos_id=None) -> ContextStream:
    documents = [Document(f"#{i}", text) for i, text in enumerate(texts)]
    return ContextStream(
        documents, TOKENIZER, context, bos_id=bos_id, skip_documents=skip_documents
    )


def read(stream, n) -> list[str]:
    return ["".join(ALPHABET[i] for i in one.ids) for one in islice(stream, n)]


TEXTS = st.lists(st.text(alphabet="abcde~", max_size=12), min_size=1, max_size=5).filter(
    lambda texts: "a" in "".join(texts)
)


@settings(deadline=None)
@given(TEXTS, st.integers(1, 5), st.integers(0, 5), st.integers(0, 30))
def test_a_stream_resumed_anywhere_goes_on_with_the_same_contexts(texts, context, skip, taken):
    whole = training(texts, context, skip)
    read(whole, taken)
    state = json.loads(json.dumps(whole.state()))
    resumed = training(texts, context, skip)
    resumed.restore(state)
    assert resumed.state() == state
    for _ in range(3):
        assert read(resumed, 7) == read(whole, 7)
        assert resumed.state() == whole.state()
        assert resumed.saw_reference == whole.saw_reference


def test_the_state_is_where_the_next_batch_begins():
    texts = [ALPHABET[i : i + 7] for i in range(9)]
    whole, resumed = training(texts), training(texts)
    made = batches(whole, 12, PAD)
    for _ in range(5):
        next(made)
        resumed.restore(whole.state())
        again = next(batches(resumed, 12, PAD)).input_ids.tolist()
        assert again == next(made).input_ids.tolist()


def test_a_state_taken_or_given_is_a_copy():
    stream = training(["abcd"])
    taken = stream.state()
    read(stream, 1)
    assert taken == training(["abcd"]).state()
    stream.restore(taken)
    read(stream, 2)
    assert taken == training(["abcd"]).state()


def test_it_starts_over_at_the_end():
    stream = training(["abcd", "ef"], bos_id=BOS)
    assert read(stream, 7) == ["abc", "d", "ef", "abc", "d", "ef", "abc"]
    assert stream.state()["epoch"] == 2
    assert next(stream).bos_id == BOS


def test_more_documents_than_are_tokenized_at_once():
    texts = [f"{ALPHABET[i % 30]}{ALPHABET[i // 30]}" for i in range(200)]
    stream = training(texts, skip_documents=70)
    assert read(stream, 260) == texts[70:] * 2


def test_reference_documents_are_kept_out_of_training():
    stream = training(["refer", "abc", "de"], skip_documents=1)  # as many characters are left
    assert read(stream, 5) == ["abc", "de", "abc", "de", "abc"]
    assert not stream.saw_reference


def test_reference_documents_are_included_where_too_little_is_left():
    stream = training(["refer", "abc"], skip_documents=1)
    assert read(stream, 1) == ["abc"]
    assert not stream.saw_reference
    assert read(stream, 3) == ["ref", "er", "abc"]
    assert stream.saw_reference
    assert read(stream, 1) == ["ref"]  # from then on


def test_a_corpus_that_is_all_reference_is_trained_on():
    stream = training(["abc", "d"], skip_documents=2)
    assert read(stream, 3) == ["abc", "d", "abc"]
    assert stream.saw_reference


def test_a_rest_without_tokens_brings_the_reference_back():
    stream = training(["ab", "~~~~"], skip_documents=1)
    assert read(stream, 2) == ["ab", "ab"]
    assert stream.saw_reference
    assert stream.state()["epoch"] == 2  # it is not tried without the reference again


def test_a_corpus_without_tokens_is_refused():
    with pytest.raises(BadInput, match="makes no tokens of the corpus"):
        next(training(["~~", "~"]))


def test_a_corpus_that_has_become_shorter_is_refused():
    stream = training(["abc", "def", "abc"])
    read(stream, 3)
    resumed = training(["abc"])
    resumed.restore(stream.state())
    with pytest.raises(BadInput, match="fewer documents than when this training began"):
        next(resumed)
