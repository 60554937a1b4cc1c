"""From one SAE's activations to its rows of the atlas: statistics, examples, labels, directions.

Reads the parts that `encode` left, in blocks of features so that memory does not grow with the
corpus, and writes one parquet file a table, named as the table. Numbering is local: `index` stands
for feature_id, and tokens count from 0; the commit adds the offsets. Everything counted is an
integer, so the result depends on no block size, chunk size or order.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from atlas.ingest.describing.examples import (
    SPLIT,
    STRATUM_NAMES,
    Layout,
    choose_examples,
    strength_order,
)
from atlas.ingest.describing.labels import EXPLAINER, METHOD, SCORED_BY, Labeller
from atlas.ingest.describing.lens import Lens, logit_lens
from atlas.ingest.describing.signatures import BUCKETS, bucket_sums, sign_sums, signatures
from atlas.ingest.describing.statistics import (
    Columns,
    WordEntries,
    feature_sums,
    per_feature,
    token_stats,
    word_entries,
    word_stats,
)
from atlas.ingest.measuring.geometry import max_cosines
from atlas.ingest.measuring.parts import BLOCK_ENTRIES, Block, Parts
from atlas.ingest.measuring.segments import Int64
from atlas.ingest.text.contexts import Context
from atlas.ingest.text.forms import WordForms
from atlas.ingest.text.tokens import TokenStream
from atlas.sae import SaeWeights

SCHEMAS = {
    "features": pa.schema(
        [
            ("index", pa.int32()),
            ("alive", pa.bool_()),
            ("density", pa.float64()),
            ("n_active", pa.int64()),
            ("sum_q", pa.int64()),
            ("sum_q2", pa.int64()),
            ("max_q", pa.int32()),
            ("quantiles_q", pa.list_(pa.int32())),
            ("word_n_active", pa.int64()),
            ("word_sum_q", pa.int64()),
            ("word_sum_q2", pa.int64()),
        ]
    ),
    "vectors": pa.schema(
        [
            ("index", pa.int32()),
            ("encoder", pa.list_(pa.float32())),
            ("encoder_bias", pa.float32()),
            ("threshold", pa.float32()),
            ("decoder", pa.list_(pa.float32())),
            ("signature", pa.list_(pa.float32(), BUCKETS)),
            ("max_cosine", pa.float32()),
        ]
    ),
    "examples": pa.schema(
        [
            ("index", pa.int32()),
            ("rank", pa.int32()),
            ("stratum", pa.string()),
            ("split", pa.string()),
            ("token", pa.int64()),
            ("q", pa.int32()),
            ("first_token", pa.int64()),
            ("last_token", pa.int64()),
        ]
    ),
    "token_effects": pa.schema(
        [
            ("index", pa.int32()),
            ("token_id", pa.int32()),
            ("rank", pa.int32()),
            ("effect", pa.float32()),
        ]
    ),
    "token_stats": pa.schema(
        [
            ("index", pa.int32()),
            ("token_id", pa.int32()),
            ("n_active", pa.int64()),
            ("sum_q", pa.int64()),
            ("max_q", pa.int32()),
        ]
    ),
    "word_stats": pa.schema(
        [
            ("index", pa.int32()),
            ("form", pa.string()),
            ("n_active", pa.int64()),
            ("n_words", pa.int64()),
            ("sum_q", pa.int64()),
            ("max_q", pa.int32()),
        ]
    ),
    "labels": pa.schema(
        [
            ("index", pa.int32()),
            ("text", pa.string()),
            ("method", pa.string()),
            ("explainer", pa.string()),
            ("score", pa.float64()),
            ("scored_by", pa.string()),
        ]
    ),
}
"""Columns of each parquet file: those of the table but with `index` for feature_id, no sae_id and
no run_id, and with local token numbers."""


@dataclass(frozen=True)
class MeasuredCorpus:
    """The reference corpus as one tokenizer cuts it; made once, used for all SAEs of a model."""

    layout: Layout
    token_id: NDArray[np.int32]
    """(n_tokens,)"""
    word: NDArray[np.int64]
    """(n_tokens,)"""
    words: WordForms
    n_vocab: int
    """Token ids are below this."""
    labeller: Labeller

    @classmethod
    def build(
        cls,
        words: WordForms,
        stream: TokenStream,
        vocabulary: Sequence[str],
        context: int,
        contexts: Iterable[Context] | None = None,
    ) -> MeasuredCorpus:
        """From the forms, the tokens and the texts of the vocabulary, for contexts of `context`.

        contexts: where they are others than the stream's own.
        """
        layout = (
            Layout.build(stream.document, stream.position, context)
            if contexts is None
            else Layout.of_contexts(stream.document, contexts)
        )
        return cls(
            layout,
            np.asarray(stream.token_id),
            np.asarray(stream.word),
            words,
            len(vocabulary),
            Labeller(words, stream, vocabulary, layout),
        )


def analyze_sae(
    parts: Parts,
    sae: SaeWeights,
    corpus: MeasuredCorpus,
    lens: Lens | None,
    folder: Path,
    block_entries: int = BLOCK_ENTRIES,
) -> None:
    """Write `folder`/TABLE.parquet for every table of `SCHEMAS`; the folder appears when complete.

    lens: None leaves `token_effects` empty. A folder that exists is left as it is. BadInput where
    activations are so large that their squares' sum leaves 64 bits.
    """
    if folder.exists():
        return
    unfinished = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    writers = {
        table: pq.ParquetWriter(unfinished / f"{table}.parquet", schema, compression="zstd")
        for table, schema in SCHEMAS.items()
    }
    try:
        signs = sign_sums(len(corpus.words))
        max_cosine = max_cosines(sae.W_dec)
        for block in parts.blocks(block_entries):
            tables = _analyze_block(block, sae, corpus, lens, signs, max_cosine)
            for table, columns in tables.items():
                writers[table].write_table(pa.table(columns, schema=SCHEMAS[table]))
    finally:
        for writer in writers.values():
            writer.close()
    unfinished.rename(folder)


def _analyze_block(
    block: Block,
    sae: SaeWeights,
    corpus: MeasuredCorpus,
    lens: Lens | None,
    signs: Int64,
    max_cosine: NDArray[np.float32],
) -> dict[str, Columns]:
    order = strength_order(block)
    words = word_entries(block, corpus.word)
    word_sum_q = per_feature(np.add, words.q, words.indptr(block.n_features))
    sums = bucket_sums(words.feature, words.word, words.q, block.n_features)
    tables = {
        "features": feature_sums(block, words, order, len(corpus.token_id)),
        "vectors": _vectors(
            block, sae, signatures(sums, word_sum_q, len(corpus.words), signs), max_cosine
        ),
        "examples": _examples(block, corpus.layout, order),
        "token_effects": _token_effects(block, sae, corpus.n_vocab, lens),
        "token_stats": token_stats(block, corpus.token_id),
        "word_stats": word_stats(block, words, corpus.words),
        "labels": _labels(block, words, corpus.labeller),
    }
    for columns in tables.values():
        columns["index"] = (np.asarray(columns["index"]) + block.first).astype(np.int32)
    return tables


def _rows(matrix: torch.Tensor) -> pa.Array:
    """A matrix (n, d) as a list<float> column of n rows."""
    values = np.ascontiguousarray(matrix.detach().cpu().float().numpy())
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()))


def _vectors(
    block: Block,
    sae: SaeWeights,
    signature: NDArray[np.float32],
    max_cosine: NDArray[np.float32],
) -> Columns:
    here = slice(block.first, block.first + block.n_features)
    threshold = sae.threshold
    return {
        "index": np.arange(block.n_features),
        "encoder": _rows(sae.W_enc[:, here].T),
        "encoder_bias": sae.b_enc[here].detach().cpu().float().numpy(),
        "threshold": pa.nulls(block.n_features, pa.float32())
        if threshold is None
        else threshold[here].detach().cpu().float().numpy(),
        "decoder": _rows(sae.W_dec[here]),
        "signature": pa.FixedSizeListArray.from_arrays(pa.array(signature.ravel()), BUCKETS),
        "max_cosine": pa.array(max_cosine[here], from_pandas=True),
    }


def _examples(block: Block, layout: Layout, order: Int64) -> Columns:
    chosen = choose_examples(block, layout, order)
    return {
        "index": chosen.feature,
        "rank": chosen.rank.astype(np.int32),
        "stratum": np.array(STRATUM_NAMES, object)[chosen.stratum],
        "split": np.array(SPLIT, object)[chosen.split],
        "token": chosen.token.astype(np.int64),
        "q": chosen.q,
        "first_token": chosen.first_token.astype(np.int64),
        "last_token": chosen.last_token.astype(np.int64),
    }


def _token_effects(
    block: Block,
    sae: SaeWeights,
    n_vocab: int,
    lens: Lens | None,
) -> Columns:
    if lens is None:
        return {name: [] for name in SCHEMAS["token_effects"].names}
    here = slice(block.first, block.first + block.n_features)
    ids, effects = logit_lens(sae.W_dec[here, lens.columns], lens.W_U, lens.gain, n_vocab)
    n, _, top = ids.shape
    rank = np.concatenate([np.arange(1, top + 1), -np.arange(1, top + 1)])
    return {
        "index": np.repeat(np.arange(n), 2 * top),
        "token_id": ids.ravel(),
        "rank": np.tile(rank, n).astype(np.int32),
        "effect": effects.ravel(),
    }


def _labels(block: Block, words: WordEntries, labeller: Labeller) -> Columns:
    labels = labeller.label(block, words.feature, words.word, words.q)
    return {
        "index": [label.feature for label in labels],
        "text": [label.text for label in labels],
        "method": [METHOD] * len(labels),
        "explainer": [EXPLAINER] * len(labels),
        "score": [label.score for label in labels],
        "scored_by": [None if label.score is None else SCORED_BY[label.unit] for label in labels],
    }
