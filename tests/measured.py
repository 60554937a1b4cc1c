"""Small reference corpora, SAEs and activations, all made up, for what measures an SAE."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from atlas.ingest.describing.analyze import MeasuredCorpus
from atlas.ingest.measuring.encode import columns
from atlas.ingest.measuring.parts import Block, Parts, write_part
from atlas.ingest.text import reference as references
from atlas.ingest.text.corpus import Document
from atlas.ingest.text.forms import WordForms
from atlas.ingest.text.reference import Reference
from atlas.ingest.text.tokens import TokenStream
from atlas.sae import SaeWeights

SCALE = 2.0**-8


def make_reference(texts: list[str]) -> Reference:
    return references.build(
        "made up", "nowhere", [Document(f"#{i}", t) for i, t in enumerate(texts)]
    )


def make_stream(reference: Reference, length: int = 3) -> tuple[TokenStream, list[str]]:
    """Tokens of at most `length` characters that cut each word, and the vocabulary they make."""
    vocabulary: dict[str, int] = {}
    rows: list[tuple[int, int, int, int, int, int]] = []
    for number, document in enumerate(reference.documents):
        position = 0
        for word in range(*reference.first_word[number : number + 2].tolist()):
            end = int(reference.word_end[word])
            for first in range(int(reference.word_start[word]), end, length):
                last = min(first + length, end)
                token = vocabulary.setdefault(document.text[first:last], len(vocabulary))
                rows.append((token, first, last, number, position, word))
                position += 1
    return TokenStream(*(np.array(c, np.int32) for c in zip(*rows, strict=True))), list(vocabulary)


def make_corpus(
    texts: list[str], context: int, length: int = 3
) -> tuple[MeasuredCorpus, TokenStream]:
    reference = make_reference(texts)
    stream, vocabulary = make_stream(reference, length)
    return MeasuredCorpus.build(WordForms.build(reference), stream, vocabulary, context), stream


def random_q(
    rng: np.random.Generator, n_tokens: int, d_sae: int, density: float = 0.2, top: int = 40
) -> np.ndarray:
    """A dense (n_tokens, d_sae) matrix of integers, mostly zero; small values, so with many ties.

    The last feature is dead.
    """
    q = rng.integers(1, top, (n_tokens, d_sae)) * (rng.random((n_tokens, d_sae)) < density)
    q[:, -1] = 0
    return q


def write_parts(folder: Path, q: np.ndarray, bounds: list[int]) -> Parts:
    """Parts of the dense matrix q (n_tokens, d_sae), cut at the token numbers `bounds`."""
    edges = [0, *bounds, len(q)]
    for number, (a, b) in enumerate(pairwise(edges)):
        token, index = np.nonzero(q[a:b])
        entries = columns(
            index, token + a, q[a:b][token, index].astype(np.int32), q.shape[1], a, b - a
        )
        write_part(folder, number, *entries, SCALE, {"n": np.array([b - a], float)})
    return Parts(folder, len(edges) - 1)


def block_of(q: np.ndarray) -> Block:
    """All features of the dense matrix q (n_tokens, d_sae) as one block."""
    index, token = np.nonzero(q.T)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(index, minlength=q.shape[1]))])
    return Block(0, indptr, token.astype(np.int32), q[token, index].astype(np.int32))


def make_sae(d: int, seed: int = 0, d_sae: int = 40, k: int = 5) -> SaeWeights:
    """A random TopK SAE, its encoder the transpose of its decoder."""
    generator = torch.Generator().manual_seed(seed)
    W_dec = torch.randn(d_sae, d, generator=generator)
    return SaeWeights(
        architecture="topk",
        activation="topk",
        k=k,
        W_enc=W_dec.T.contiguous(),
        b_enc=torch.zeros(d_sae),
        W_dec=W_dec / W_dec.norm(dim=1, keepdim=True) ** 2,
        b_dec=torch.zeros(d),
        pre_bias=torch.zeros(d),
        input_scale=2.5,
        output_scale=2.5,
    )
