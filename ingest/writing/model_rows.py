"""Rows of the reference corpus, of a tokenizer and of a language model, each added once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from atlas.errors import BadInput
from atlas.ingest.text.tokens import vocabulary_texts
from atlas.ingest.writing.finished import FinishedRun
from atlas.ingest.writing.rows import insert_columns, insert_row, next_id
from atlas.store import Atlas


def add_reference(atlas: Atlas, run: FinishedRun, run_id: int) -> None:
    """Add the run's reference corpus to an atlas without one; BadInput if it has another."""
    reference = run.reference
    known = atlas.row("select sha256 from corpora where corpus_id = 0")
    if known is not None:
        if known[0] != reference.sha256:
            raise BadInput(
                f"{atlas.path} was given another reference corpus while this ingest ran; give the "
                "command again to measure the model on that one."
            )
        return
    documents = reference.documents
    atlas.execute(
        "insert into corpora values (0, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            reference.name,
            reference.source,
            run.options.licence,
            reference.sha256,
            len(documents),
            reference.n_characters,
            reference.n_words,
            run_id,
        ],
    )
    insert_columns(
        atlas,
        "documents",
        {
            "document_id": np.arange(len(documents)),
            "corpus_id": np.zeros(len(documents), np.int32),
            "source": [document.source for document in documents],
            "text": [document.text for document in documents],
        },
    )
    document = np.repeat(np.arange(len(documents)), np.diff(reference.first_word))
    insert_columns(
        atlas,
        "words",
        {
            "word": np.arange(reference.n_words),
            "document_id": document,
            "start_char": reference.word_start,
            "end_char": reference.word_end,
            "form": pa.array(run.forms.written_forms).take(pa.array(run.forms.written)),
        },
    )


def add_tokenizer(atlas: Atlas, run: FinishedRun, run_id: int) -> tuple[int, int]:
    """(tokenizer_id, first_token) of the run's tokenizer, added if the atlas has not met it."""
    known = atlas.row(
        "select tokenizer_id, first_token from tokenizers where sha256 = ?",
        [run.plan.tokenizer_sha256],
    )
    if known is not None:
        return int(known[0]), int(known[1])
    tokenizer_id = next_id(atlas, "tokenizers", "tokenizer_id")
    first_token = next_id(atlas, "tokens", "token")
    stream = run.stream
    texts = vocabulary_texts(run.model.tokenizer)
    n_tokens = len(stream.token_id)
    atlas.execute(
        "insert into tokenizers values (?, ?, ?, ?, ?, ?, ?)",
        [
            tokenizer_id,
            run.plan.model,
            run.plan.tokenizer_sha256,
            len(texts),
            first_token,
            n_tokens,
            run_id,
        ],
    )
    insert_columns(
        atlas,
        "vocabulary",
        {
            "tokenizer_id": np.full(len(texts), tokenizer_id, np.int32),
            "token_id": np.arange(len(texts), dtype=np.int32),
            "text": texts,
            "n_tokens": np.bincount(stream.token_id, minlength=len(texts))[: len(texts)],
        },
    )
    insert_columns(
        atlas,
        "tokens",
        {
            "token": np.arange(first_token, first_token + n_tokens),
            "document_id": stream.document,
            "position": stream.position,
            "token_id": stream.token_id,
            "start_char": stream.start,
            "end_char": stream.end,
            "word": stream.word,
        },
    )
    return tokenizer_id, first_token


def add_model(atlas: Atlas, run: FinishedRun, tokenizer_id: int, run_id: int) -> int:
    """model_id of the run's model, added if the atlas has not met it."""
    known = atlas.row(
        "select model_id, sha256, tokenizer_id from models where name = ?", [run.plan.model]
    )
    model = run.model
    if known is not None:
        if known[1:] != (model.sha256, tokenizer_id):
            raise BadInput(
                f"{atlas.path} was given another model named {run.plan.model!r} while this ingest "
                "ran; give the command again with --name."
            )
        return int(known[0])
    model_id = next_id(atlas, "models", "model_id")
    insert_row(
        atlas,
        "models",
        {
            "model_id": model_id,
            "name": run.plan.model,
            "source": model.source,
            "revision": model.revision,
            "sha256": model.sha256,
            "model_type": model.model_type,
            "n_layers": model.n_layers,
            "d_model": model.d_model,
            "n_parameters": model.n_parameters,
            "is_causal": model.is_causal,
            "prepends_bos": model.bos_id is not None,
            "block_path": model.block_path,
            "tokenizer_id": tokenizer_id,
            "run_id": run_id,
            "randomized": str(model.randomized) if model.randomized else None,
        },
    )
    return model_id
