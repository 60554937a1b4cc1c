"""A first label for every feature, from the tokens alone: no language model is asked.

For each kind of property (`label_kinds`) the few keys are found that best tell the words on which
the feature is active, on 'explain' documents; the best kind becomes the label, and its score is
measured anew on 'score' documents, which had no part in the choice. Text and classifier are one:
the label says exactly what is scored.

Score: the F1 of the classifier "has one of the named keys", in which an active word counts by its
activation over the feature's mean activation (so all active words together count as often as they
are), and an inactive one counts 1. The set of keys that maximises F1 is that of a linear fractional
programme, which Dinkelbach's iteration ("On nonlinear fractional programming", 1967) solves: at the
best F, the keys with 2 tp - F (tp + fp) > 0, of which the `most` largest are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atlas.ingest.describing.examples import Layout
from atlas.ingest.describing.label_kinds import Kind, Unit, token_kinds, word_kinds
from atlas.ingest.measuring.parts import Block
from atlas.ingest.measuring.segments import (
    Int64,
    group_entries,
    rank_in_segment,
    segment_starts,
)
from atlas.ingest.text.forms import WordForms
from atlas.ingest.text.tokens import TokenStream

METHOD = "words"
EXPLAINER = "atlas"
SCORED_BY = {
    "word": "f1 over words of the score split, weighted by activation",
    "token": "f1 over tokens of the score split, weighted by activation",
}

LEAST_COUNT = 3
"""A key is named only if the feature is active on so many explain words with it: what happened once
or twice is chance. Of a feature with fewer than twelve such words, a quarter of them is enough."""

LEAST_GAIN = 0.01
"""A key is named only if it raises F1 by about so much."""

KEY_PENALTY = 0.005
"""Of two kinds that tell the feature equally well, the one that needs fewer keys is said."""

ROUNDS = 8
"""Of Dinkelbach's iteration, which converges in two to four."""


@dataclass(frozen=True)
class Label:
    """A label of one feature."""

    feature: int
    """Number within the block."""
    text: str
    unit: Unit
    score: float | None
    """F1 on the score split; None if the feature is active on none of its words."""
    explain_score: float
    """F1 on the explain split, by which it was chosen."""
    kind: str


@dataclass(frozen=True)
class _Entries:
    """One split's activations of a block on words or tokens, and what each counts."""

    feature: NDArray[np.int32]
    unit: NDArray[np.integer]
    q: NDArray[np.int32]
    n_active: Int64
    """(n_features,)"""
    weight: NDArray[np.float64]
    """(n_features,) what one unit of q counts: 1 over the mean q."""

    @classmethod
    def build(
        cls,
        feature: NDArray[np.int32],
        unit: NDArray[np.integer],
        q: NDArray[np.int32],
        n_features: int,
    ) -> _Entries:
        n_active = np.bincount(feature, minlength=n_features)
        sums = np.bincount(feature, weights=q, minlength=n_features)
        weight = np.divide(n_active, sums, out=np.zeros(n_features), where=sums > 0)
        return cls(feature, unit, q, n_active, weight)


@dataclass(frozen=True)
class _Choice:
    """The keys that one kind names for each feature, ordered by (feature, most telling first)."""

    feature: Int64
    key: Int64
    f1: NDArray[np.float64]
    """(n_features,) on the explain split; 0 where no key is named."""


class Labeller:
    """Labels features from their activations; holds the kinds' keys of the whole corpus."""

    def __init__(
        self, words: WordForms, stream: TokenStream, vocabulary: Sequence[str], layout: Layout
    ) -> None:
        self.kinds = [*word_kinds(words), *token_kinds(words, stream, vocabulary, layout)]
        self._split: dict[Unit, NDArray[np.int32]] = {
            "word": words.document & 1,
            "token": layout.document & 1,
        }
        self._counts = [
            [
                np.bincount(kind.key[self._split[kind.unit] == split], minlength=kind.n_keys + 1)
                for split in (0, 1)
            ]
            for kind in self.kinds
        ]

    def label(
        self,
        block: Block,
        feature: NDArray[np.int32],
        word: NDArray[np.integer],
        q: NDArray[np.int32],
    ) -> list[Label]:
        """Labels of a block's features, in order; none for one that no explain document activates.

        feature, word, q: the block's `word_entries`.
        """
        n_features = block.n_features
        entries: dict[Unit, list[_Entries]] = {
            "word": self._by_split("word", feature, word, q, n_features),
            "token": self._by_split("token", block.feature, block.token, block.q, n_features),
        }
        choices = [
            _choose(kind, counts[0], entries[kind.unit][0], n_features)
            for kind, counts in zip(self.kinds, self._counts, strict=True)
        ]
        values = np.stack(
            [
                np.where(
                    choice.f1 > 0,
                    choice.f1
                    - kind.cost
                    - KEY_PENALTY * np.bincount(choice.feature, minlength=n_features),
                    -np.inf,
                )
                for kind, choice in zip(self.kinds, choices, strict=True)
            ]
        )
        winner = values.argmax(axis=0)
        winner[~np.isfinite(values.max(axis=0))] = -1
        labels = []
        for number, (kind, choice) in enumerate(zip(self.kinds, choices, strict=True)):
            chosen = winner[choice.feature] == number
            if not chosen.any():
                continue
            here, keys = choice.feature[chosen], choice.key[chosen]
            scores = _score(
                kind, self._counts[number][1], entries[kind.unit][1], here, keys, n_features
            )
            starts = segment_starts(here)
            for first, last in zip(starts, [*starts[1:], len(here)], strict=True):
                f = int(here[first])
                score = float(scores[f]) if entries[kind.unit][1].n_active[f] else None
                labels.append(
                    Label(
                        f,
                        kind.text(keys[first:last].tolist()),
                        kind.unit,
                        score,
                        float(choice.f1[f]),
                        kind.name,
                    )
                )
        return sorted(labels, key=lambda label: label.feature)

    def _by_split(
        self,
        unit: Unit,
        feature: NDArray[np.int32],
        number: NDArray[np.integer],
        q: NDArray[np.int32],
        n_features: int,
    ) -> list[_Entries]:
        split = self._split[unit][number]
        return [
            _Entries.build(feature[at], number[at], q[at], n_features)
            for at in (np.flatnonzero(split == 0), np.flatnonzero(split == 1))
        ]


def _choose(kind: Kind, n: Int64, entries: _Entries, n_features: int) -> _Choice:
    """The keys, up to `kind.most`, that maximise each feature's F1; n: (n_keys + 1,) counts."""
    # Units without a key count as one more key, which is dropped below.
    key = kind.key[entries.unit]
    groups = group_entries(entries.feature, key, entries.q, kind.n_keys + 1)
    least = np.clip(entries.n_active // 4, 1, LEAST_COUNT)[groups.feature]
    often = (groups.count >= least) & (groups.key < kind.n_keys)
    feature, key = groups.feature[often], groups.key[often]
    count, sum_q = groups.count[often], groups.sum_q[often]

    f1 = np.zeros(n_features)
    hits = sum_q * entries.weight[feature]  # true positives, weighted
    named = hits + (n[key] - count)  # all that the classifier would call active
    # The best single key is a bound from below: what gains nothing there gains nothing later.
    np.maximum.at(f1, feature, 2 * hits / (named + entries.n_active[feature]))
    useful = 2 * hits > f1[feature] * named
    feature, key, hits, named = feature[useful], key[useful], hits[useful], named[useful]
    chosen = np.zeros(0, np.int64)

    def f1_and_size(chosen: Int64) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """F1 of the chosen keys, and what it is divided by, both (n_features,)."""
        tp = np.bincount(feature[chosen], weights=hits[chosen], minlength=n_features)
        called = np.bincount(feature[chosen], weights=named[chosen], minlength=n_features)
        size = np.maximum(called + entries.n_active, 1)
        return 2 * tp / size, size

    for _ in range(ROUNDS):
        gain = 2 * hits - f1[feature] * named
        order = np.lexsort((key, -gain, feature))
        rank = rank_in_segment(segment_starts(feature[order]), len(order))
        chosen = order[(rank < kind.most) & (gain[order] > 0)]
        better, _ = f1_and_size(chosen)
        if not (better > f1 + 1e-12).any():
            break
        f1 = np.maximum(f1, better)
    # A key that adds next to nothing only makes the label longer.
    f1, size = f1_and_size(chosen)
    added = (2 * hits[chosen] - f1[feature[chosen]] * named[chosen]) / size[feature[chosen]]
    alone = rank_in_segment(segment_starts(feature[chosen]), len(chosen)) == 0
    chosen = chosen[(added >= LEAST_GAIN) | alone]
    return _Choice(feature[chosen], key[chosen], f1_and_size(chosen)[0])


def _score(
    kind: Kind, n: Int64, entries: _Entries, feature: Int64, key: Int64, n_features: int
) -> NDArray[np.float64]:
    """F1 (n_features,) on a split of the classifiers "has one of the keys (feature, key)"."""
    wanted = np.sort(feature * (kind.n_keys + 1) + key)
    concerned = np.zeros(n_features, bool)
    concerned[feature] = True
    at = np.flatnonzero(concerned[entries.feature])
    code = entries.feature[at].astype(np.int64) * (kind.n_keys + 1) + kind.key[entries.unit[at]]
    place = np.minimum(np.searchsorted(wanted, code), len(wanted) - 1)
    hit = at[wanted[place] == code]
    hit_feature = entries.feature[hit]
    tp = np.bincount(hit_feature, weights=entries.q[hit], minlength=n_features) * entries.weight
    n_hit = np.bincount(hit_feature, minlength=n_features)
    occurrences = np.bincount(feature, weights=n[key], minlength=n_features)
    called = tp + occurrences - n_hit
    return 2 * tp / np.maximum(called + entries.n_active, 1)
