"""Feature absorption on first letters: latents that should fire on a letter but leave it to others.

Chanin et al. 2024 (arXiv 2409.14507), with the two measures of SAEBench (Karvonen et al. 2025). For
each letter, on tokens that hold the first letter of a word:

1. A logistic regression on y, what the SAE stands for, gives the letter's direction p and says in
   which words the model knows the letter.
2. The latent whose mean activation rises most on the letter is its main latent. Further ones join,
   up to `MOST_MAIN`, while each makes a k-sparse probe better by `F1_JUMP` (feature splitting).
3. In a word of the letter, latent j contributes a_j (d_j·p) to what all latents have to make up,
   t = (y - ŷ₀)·p, where ŷ₀ is the reconstruction with no latent active.
   *Full absorption*: no main latent fires, and the largest contribution is that of a latent aligned
   with p and at least `PROPORTION` of t.
   *Absorbed fraction*: with M the main latents' contribution and A that of the `MOST_ABSORBING`
   largest others aligned with p: 0 where M ≥ t or A < `PROPORTION` · t; 1 where M ≤ 0; else
   B / (B + M) with B = min(A, t - M).

Averages run over the words of the letter that the regression finds, then over letters.

What differs from the papers, so that it means the same on a small model: words stand in the
reference corpus instead of a spelling prompt, some occurrences of each form, and half of the forms
are kept from choosing and fitting; t is taken from ŷ₀ on rather than from 0, since activations may
lie far from 0; and 'aligned' is a cosine that is `ALIGNED` standard deviations of the cosine of two
random directions, 1 / √d, where the papers have .025 and .1 (in Gemma 2 2B, d = 2304, it is .06).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from atlas.ingest.measuring.logistic import best_threshold, f1, fit, fit_each
from atlas.ingest.measuring.probing import mean_differences
from atlas.ingest.measuring.segments import rank_in_segment, segment_starts, stable_order
from atlas.ingest.text.forms import WordForms
from atlas.ingest.text.reference import Reference
from atlas.ingest.text.tokens import TokenStream

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Int64 = NDArray[np.int64]

LEAST_FORMS = 20
"""Distinct words that begin with a letter, in either half, for the letter to be looked at."""

LEAST_LETTERS = 5
"""With fewer letters that the model knows there is no mean over letters."""

LEAST_F1 = 0.6
"""A letter is known where the regression's F1 on unseen words is better (SAEBench)."""

PER_FORM = 4
"""Occurrences of a form at most: frequent words are not to stand for their letter."""

MOST_MAIN = 10
F1_JUMP = 0.03
MOST_ABSORBING = 3
PROPORTION = 0.4
ALIGNED = 3.0


@dataclass(frozen=True)
class LetterWords:
    """Tokens that hold the first letter of a word. All arrays (n,)."""

    token: Int64
    """Ascending."""
    letter: NDArray[np.int32]
    """Code point of the lower-case letter."""
    fitted: Bools
    """Whether its form belongs to the half that latents are chosen and probes fitted on."""

    def __len__(self) -> int:
        return len(self.token)


@dataclass(frozen=True)
class KnownLetter:
    """A letter that a linear probe reads off the activations."""

    letter: int
    """Code point."""
    direction: Floats
    """(d_out,) of length 1."""
    f1: float
    """On unseen words."""
    found: Bools
    """(n_words,) unseen words of the letter in which the probe sees it."""


@dataclass(frozen=True)
class Absorption:
    """What becomes of one letter in an SAE."""

    letter: str
    probe_f1: float
    main: tuple[int, ...]
    """Index of each main latent, the first one first."""
    main_f1: float
    """Of the k-sparse probe of these, on the words it was fitted on."""
    n_words: int
    full_share: float
    """Share of the words with full absorption."""
    fraction: float
    """Mean absorbed fraction."""
    absorbers: tuple[int, ...]
    """The latents that absorb fully, most often first."""


def letter_words(
    reference: Reference, forms: WordForms, stream: TokenStream, among: Bools, most: int
) -> LetterWords:
    """The first tokens of words that begin with a letter, of letters with enough forms.

    among: (n_tokens,) tokens that may be taken. Where they are more than `most`, words at even
    distances.
    """
    word = np.asarray(stream.word)
    first = np.ones(len(word), bool)
    first[1:] = word[1:] != word[:-1]
    begin = reference.word_start[word]
    first &= among & (stream.start <= begin) & (begin < stream.end)
    letters = np.array([_first_letter(form) for form in forms.lower_forms], np.int32)
    token = np.flatnonzero(first)
    token = token[letters[forms.lower[word[token]]] >= 0]
    form = forms.lower[word[token]]
    # Some occurrences of each form, the first ones.
    order = stable_order(form)
    rank = np.empty(len(order), np.int64)
    rank[order] = rank_in_segment(segment_starts(form[order]), len(order))
    token, form = token[rank < PER_FORM], form[rank < PER_FORM]
    if len(token) > most:
        even = (2 * np.arange(most) + 1) * len(token) // (2 * most)
        token, form = token[even], form[even]
    # A letter's forms go to either half in turn.
    distinct, inverse = np.unique(form, return_inverse=True)
    order = stable_order(letters[distinct])
    fitted = np.empty(len(distinct), bool)
    starts = segment_starts(letters[distinct][order])
    fitted[order] = rank_in_segment(starts, len(order)) % 2 == 0
    counts = np.diff(starts, append=len(order))
    enough = letters[distinct][order][starts[counts >= 2 * LEAST_FORMS]]
    kept = np.isin(letters[form], enough)
    return LetterWords(token[kept], letters[form][kept], fitted[inverse][kept])


def known_letters(y: NDArray[np.float32], words: LetterWords) -> list[KnownLetter]:
    """The letters that logistic regression finds in y, float32 (n_words, d_out)."""
    letters = np.unique(words.letter)
    if len(letters) < 2:
        return []
    is_letter = words.letter[:, None] == letters
    fitted, unseen = words.fitted, ~words.fitted
    w, b = fit_each(y[fitted], is_letter[fitted])
    predicted = np.zeros_like(is_letter)
    predicted[unseen] = y[unseen] @ w + b > 0
    known = []
    for column, letter in enumerate(letters.tolist()):
        score = f1(predicted[unseen, column], is_letter[unseen, column])
        if score > LEAST_F1:
            direction = w[:, column] / np.linalg.norm(w[:, column])
            found = predicted[:, column] & is_letter[:, column]
            known.append(KnownLetter(letter, direction, score, found))
    return known


def absorption(
    words: LetterWords,
    letters: list[KnownLetter],
    acts: sparse.csr_array,
    W_dec: NDArray[np.float32],
    left: NDArray[np.float32],
) -> list[Absorption]:
    """What becomes of each letter.

    acts: (n_words, d_sae) activations, such that `acts @ W_dec`, W_dec being (d_sae, d_out), is in
    the model's units; left: y - ŷ₀ (n_words, d_out), what the latents have to make up.
    """
    fitted = acts[words.fitted]
    length = np.linalg.norm(W_dec, axis=1).astype(np.float64)
    labels = words.letter[words.fitted, None] == np.array([one.letter for one in letters])
    rise = mean_differences(fitted.T.tocsr(), labels) * length[:, None]
    by_latent = fitted.tocsc()
    found = []
    for column, one in enumerate(letters):
        main, main_f1 = _main_latents(by_latent, rise[:, column], labels[:, column])
        found.append(_absorption(one, main, main_f1, acts, W_dec, length, left))
    return found


def absorption_metrics(found: list[Absorption]) -> dict[str, float]:
    """Means over letters; nothing where the model knows fewer than `LEAST_LETTERS`."""
    if len(found) < LEAST_LETTERS:
        return {}
    means: Mapping[str, list[float]] = {
        "absorption_full": [one.full_share for one in found],
        "absorption_fraction": [one.fraction for one in found],
        "absorption_main_f1": [one.main_f1 for one in found],
        "absorption_splits": [float(len(one.main)) for one in found],
    }
    return {name: float(np.mean(values)) for name, values in means.items()} | {
        "absorption_letters": float(len(found))
    }


def _first_letter(form: str) -> int:
    """Code point of a lower-case form's first letter, -1 where it begins with none."""
    return ord(form[0]) if form[:1].isalpha() else -1


def _main_latents(
    acts: sparse.csc_array, rise: NDArray[np.float64], y: Bools
) -> tuple[tuple[int, ...], float]:
    """The main latents of a letter and the F1 of their probe; none where no latent rises on it."""
    order = np.argsort(-rise, kind="stable")[:MOST_MAIN]
    order = order[rise[order] > 0]
    x = acts[:, order].toarray().astype(np.float64)
    n_main, best = 0, 0.0
    for k in range(1, len(order) + 1):
        w, b = fit(x[:, :k], y)
        score = x[:, :k] @ w + b
        reached = f1(score >= best_threshold(score, y), y)
        if k > 1 and reached <= best + F1_JUMP:
            break
        n_main, best = k, reached
    return tuple(order[:n_main].tolist()), best


def _absorption(
    known: KnownLetter,
    main: tuple[int, ...],
    main_f1: float,
    acts: sparse.csr_array,
    W_dec: NDArray[np.float32],
    length: NDArray[np.float64],
    left: NDArray[np.float32],
) -> Absorption:
    p = known.direction.astype(np.float32)  # a decoder in float64 would take twice its memory
    along = (W_dec @ p).astype(np.float64)
    cosine = np.divide(along, length, out=np.zeros_like(along), where=length > 0)
    aligned = cosine >= ALIGNED / np.sqrt(len(p))
    is_main = np.zeros(len(along), bool)
    is_main[list(main)] = True
    wanted = left[known.found] @ p
    rows = acts[known.found]
    fractions, absorbers = np.zeros(len(wanted)), []
    for row, t in enumerate(wanted.tolist()):
        entries = slice(rows.indptr[row], rows.indptr[row + 1])
        latent, value = rows.indices[entries], rows.data[entries]
        there = value > 0
        latent, contribution = latent[there], (value * along[latent])[there]
        if t <= 0 or not len(latent):
            continue
        mains = is_main[latent]
        others = np.sort(contribution[~mains & aligned[latent] & (contribution > 0)])
        fractions[row] = _fraction(
            t, float(contribution[mains].sum()), float(others[-MOST_ABSORBING:].sum())
        )
        largest = int(np.argmax(contribution))
        if not mains.any() and aligned[latent[largest]] and contribution[largest] >= PROPORTION * t:
            absorbers.append(int(latent[largest]))
    by_count = sorted(set(absorbers), key=lambda latent: (-absorbers.count(latent), latent))
    return Absorption(
        chr(known.letter),
        known.f1,
        main,
        main_f1,
        len(wanted),
        len(absorbers) / len(wanted),
        float(fractions.mean()),
        tuple(by_count),
    )


def _fraction(t: float, main: float, others: float) -> float:
    """How much of a letter's share t > 0 in a word the others have taken over."""
    if main >= t or others < PROPORTION * t:
        return 0.0
    if main <= 0:
        return 1.0
    taken = min(others, t - main)
    return taken / (taken + main)
