"""k-sparse probing: how well a few of an SAE's features tell properties of tokens.

Gurnee et al. 2023 ("Finding neurons in a haystack", §3), as SAEBench (Karvonen et al. 2025) applies
it to SAEs: the k features whose mean activation differs most between tokens with and without the
property, then a logistic regression on these. Here the properties are those of text alone
(`atlas.ingest.measuring.properties`), features are chosen and fitted on the 'explain' documents and
scored on the 'score' documents, and a feature's activation counts in units of its decoder
direction's length, so that rescaling features changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from atlas.ingest.measuring.logistic import auc, balanced_accuracy, best_threshold, f1, fit
from atlas.ingest.measuring.parts import Parts

Bools = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

SIZES = (1, 5, 16)
"""The k of the probes."""

TOKENS = 1 << 16
"""Most tokens of a split that are looked at."""

LEAST = 50
"""Tokens with a property, and without it, that either split must hold for a probe of it."""


@dataclass(frozen=True)
class Probe:
    """How one probe does on the score split."""

    property: str
    k: int
    features: tuple[int, ...]
    """Which, by their index, the most telling first; fewer than k where no more tell anything."""
    n_tokens: int
    n_positive: int
    balanced_accuracy: float
    f1: float
    auc: float


class ProbedTokens:
    """The tokens of both splits that probes are fitted and scored on, with their properties.

    Of a split with more than `most` tokens, those of documents at even distances are looked at, and
    of all only those that are counted.

    Attributes:
        row: (n_tokens,) of each token of the corpus its row, -1 where it is not among them; rows of
            the explain split come first.
        n_explain: how many these are.
        labels: of each property that is frequent enough in both splits, (n_rows,).
    """

    def __init__(
        self,
        properties: Mapping[str, Bools],
        document: NDArray[np.integer],
        counted: Bools,
        most: int = TOKENS,
    ) -> None:
        splits = [_spread_documents(document, split, most) for split in (0, 1)]
        splits = [tokens[counted[tokens]] for tokens in splits]
        chosen = np.concatenate(splits)
        self.n_explain = len(splits[0])
        self.row = np.full(len(document), -1, np.int32)
        self.row[chosen] = np.arange(len(chosen))
        labels = {name: has[chosen] for name, has in properties.items()}
        self.labels = {name: has for name, has in labels.items() if self._frequent(has)}

    def _frequent(self, has: Bools) -> bool:
        halves = has[: self.n_explain], has[self.n_explain :]
        return all(LEAST <= half.sum() <= len(half) - LEAST for half in halves)


def probe(parts: Parts, length: Float64, tokens: ProbedTokens) -> list[Probe]:
    """The probes of every property and every k of `SIZES`.

    length: (d_sae,) of each decoder direction.
    """
    names = list(tokens.labels)
    if not names:
        return []
    chosen = _telling(parts, length, tokens, names)
    found = []
    for name, features in zip(names, chosen, strict=True):
        y = tokens.labels[name]
        x = _columns(parts, features, length, tokens)
        found += [_score(name, k, features[:k], x[:, :k], y, tokens.n_explain) for k in SIZES]
    return found


def probe_metrics(probes: list[Probe]) -> dict[str, float]:
    """Mean balanced accuracy over the properties, for each k; nothing where there are none."""
    sizes = sorted({one.k for one in probes})
    return {
        f"sparse_probing_k{k}": float(
            np.mean([one.balanced_accuracy for one in probes if one.k == k])
        )
        for k in sizes
    }


def mean_differences(
    acts: sparse.csr_array, labels: NDArray[np.bool_] | NDArray[np.int64]
) -> Float64:
    """Mean activation where a label holds less that where it does not, (n_features, n_labels).

    acts: (n_features, n_rows); labels: (n_rows, n_labels), each holding somewhere and not
    everywhere.
    """
    n_rows = labels.shape[0]
    n_positive = labels.sum(0, dtype=np.float64)
    total = np.asarray(acts.sum(1), np.float64)[:, None]
    positive = np.asarray(acts @ labels.astype(acts.dtype), np.float64)
    difference: Float64 = positive / n_positive - (total - positive) / (n_rows - n_positive)
    return difference


def _spread_documents(document: NDArray[np.integer], split: int, most: int) -> Int64:
    """Tokens of a split's documents: all, or those of documents at even distances."""
    starts = np.searchsorted(document, np.arange(int(document[-1]) + 2)).tolist()
    spans = list(pairwise(starts))[split::2]
    n_tokens = sum(last - first for first, last in spans)
    if n_tokens > most:
        n = max(1, len(spans) * most // n_tokens)
        spans = [spans[(2 * i + 1) * len(spans) // (2 * n)] for i in range(n)]
    return np.concatenate([np.arange(*span) for span in spans] or [np.zeros(0, np.int64)])


def _telling(
    parts: Parts, length: Float64, tokens: ProbedTokens, names: list[str]
) -> list[list[int]]:
    """For each property the features that differ most, of the explain split; dead ones never."""
    labels = np.stack([tokens.labels[name][: tokens.n_explain] for name in names], axis=1)
    differences = []
    for block in parts.blocks():
        row = tokens.row[block.token]
        kept = (row >= 0) & (row < tokens.n_explain)
        acts = sparse.csr_array(
            (block.q[kept].astype(np.int64), (block.feature[kept], row[kept])),
            shape=(block.n_features, tokens.n_explain),
        )
        # Sums of integers: the same whatever their order.
        differences.append(mean_differences(acts, labels.astype(np.int64)))
    telling = np.abs(np.concatenate(differences) * length[:, None])
    best = np.argsort(-telling, axis=0, kind="stable")[: max(SIZES)]
    return [
        [int(feature) for feature in column if telling[feature, i] > 0]
        for i, column in enumerate(best.T)
    ]


def _columns(
    parts: Parts, features: list[int], length: Float64, tokens: ProbedTokens
) -> NDArray[np.float64]:
    """The activations of some features at the probed tokens, (n_rows, n_features)."""
    x = np.zeros((int(tokens.row.max()) + 1, len(features)))
    for column, feature in enumerate(features):
        block = parts.feature(feature)
        row = tokens.row[block.token]
        kept = row >= 0
        x[row[kept], column] = block.q[kept] * (parts.scale * length[feature])
    return x


def _score(name: str, k: int, features: list[int], x: Float64, y: Bools, n_explain: int) -> Probe:
    w, b = fit(x[:n_explain], y[:n_explain])
    score = x @ w + b
    least = best_threshold(score[:n_explain], y[:n_explain])
    score, held_out = score[n_explain:], y[n_explain:]
    return Probe(
        name,
        k,
        tuple(features),
        len(held_out),
        int(held_out.sum()),
        balanced_accuracy(score >= 0, held_out),
        f1(score >= least, held_out),
        auc(score, held_out),
    )
