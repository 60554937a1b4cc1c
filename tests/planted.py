"""Two dictionaries that share a known set of features, as sparse activations and as decoders.

A shared feature stands for one concept in both: it fires where the concept occurs, except for
drop-out, and here and there where it does not, with strengths that agree up to noise. Concepts
occur in runs, so neighbouring units are alike, as in texts. All other features are unrelated. B's
decoders are a rotation of A's, where features are shared, plus noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atlas.compare.activity import Activity
from atlas.compare.pairing import Side

DOCUMENT = 100
"""Units of one document; every other one chooses pairs."""


class PlantedSide(Side):
    """A side that is given, not read."""

    def __init__(
        self,
        activity: Activity,
        texts: np.ndarray | None = None,
        excluded: frozenset[str] = frozenset(),
    ) -> None:
        """texts: (n_units,), by which features have top texts; excluded: the non-concepts."""
        self.activity = activity
        self.document = np.arange(activity.n_units) // DOCUMENT
        self.tokenizer = "planted"
        if texts is not None:
            self.top_texts = [top_texts(activity, i, texts) for i in range(activity.d_sae)]
            self.of_concepts = np.array([not found & excluded for found in self.top_texts])


@dataclass(frozen=True)
class Planted:
    """Two sides and what is true of them."""

    a: PlantedSide
    b: PlantedSide
    partner: np.ndarray
    """(d_a,): the B-feature that stands for the same as each of A, −1 for none."""
    rate: np.ndarray
    """(d_a,): how often what each A-feature stands for occurs, per unit."""
    decoder_a: np.ndarray
    """(d_a, d_model)"""
    decoder_b: np.ndarray


def planted(
    n_shared: int,
    n_alone: int,
    n_units: int = 40_000,
    *,
    rates: tuple[float, float] = (1e-4, 1e-1),
    dropout: float = 0.2,
    false: float = 0.2,
    agreement: float = 0.8,
    run: float = 2.0,
    d_model: int = 64,
    decoder_noise: float = 0.1,
    seed: int = 0,
) -> Planted:
    """Sides of `n_shared` + `n_alone` features each.

    rates: between which rates are log-uniform.
    dropout: share of a concept's units on which a feature of it does not fire.
    false: units on which it fires falsely, as a share of the concept's.
    agreement: correlation of the logarithms of strengths.
    run: mean length of a run of units on which a concept occurs.
    decoder_noise: length of what is added to B's shared directions, of length 1.
    """
    rng = np.random.default_rng([seed, n_shared, n_alone])
    d = n_shared + n_alone
    columns: list[list[tuple[np.ndarray, np.ndarray]]] = [[], []]
    rate = np.exp(rng.uniform(*np.log(rates), (2, d)))
    rate[1, :n_shared] = rate[0, :n_shared]
    for i in range(d):
        occurs = _occurrences(rng, n_units, rate[0, i], run)
        common = rng.standard_normal(n_units)
        for side in range(2):
            if i >= n_shared:
                occurs = _occurrences(rng, n_units, rate[side, i], run)
                common = rng.standard_normal(n_units)
            fires = occurs[rng.random(len(occurs)) >= dropout]
            elsewhere = rng.integers(0, n_units, rng.binomial(n_units, false * rate[side, i]))
            unit = np.union1d(fires, elsewhere)
            own = rng.standard_normal(len(unit))
            log = np.sqrt(agreement) * common[unit] + np.sqrt(1 - agreement) * own
            columns[side].append((unit, np.round(1024 * np.exp(0.5 * log)) + 1))
    order = rng.permutation(d)
    partner = np.where(np.arange(d) < n_shared, np.argsort(order), -1)
    decoder_a, fresh = _unit(rng.standard_normal((2, d, d_model)))
    rotation, _ = np.linalg.qr(rng.standard_normal((d_model, d_model)))
    noise = decoder_noise * _unit(rng.standard_normal((d, d_model)))
    decoder_b = np.where(
        np.arange(d)[:, None] < n_shared, _unit(decoder_a @ rotation + noise), fresh
    )
    return Planted(
        PlantedSide(activity_of(columns[0], n_units)),
        PlantedSide(activity_of([columns[1][i] for i in order], n_units)),
        partner,
        rate[0],
        decoder_a,
        decoder_b[order],
    )


def activity_of(columns: list[tuple[np.ndarray, np.ndarray]], n_units: int) -> Activity:
    """The activity of features given as (units, ascending, and q there)."""
    lengths = [len(unit) for unit, _ in columns]
    return Activity(
        n_units,
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate([unit for unit, _ in columns]).astype(np.int32),
        np.concatenate([q for _, q in columns]).astype(np.int32),
    )


def activity_from(dense: np.ndarray) -> Activity:
    """The activity of a matrix (n_units, d_sae) of q ≥ 0."""
    return activity_of(
        [(column.nonzero()[0], column[column > 0]) for column in dense.T], len(dense)
    )


def dense(activity: Activity) -> np.ndarray:
    """The other way round: int64 (n_units, d_sae)."""
    out = np.zeros((activity.n_units, activity.d_sae), np.int64)
    feature = np.repeat(np.arange(activity.d_sae), activity.n_active)
    out[activity.unit, feature] = activity.q
    return out


def top_texts(activity: Activity, feature: int, texts: np.ndarray) -> frozenset[str]:
    """The texts of a feature's five strongest units."""
    mine = slice(activity.indptr[feature], activity.indptr[feature + 1])
    strongest = np.argsort(-activity.q[mine], kind="stable")[:5]
    return frozenset(texts[activity.unit[mine][strongest]].tolist())


def _occurrences(rng: np.random.Generator, n_units: int, rate: float, run: float) -> np.ndarray:
    """Units, ascending, in runs of geometric length with the mean `run`."""
    starts = rng.integers(0, n_units, rng.binomial(n_units, rate / run))
    lengths = rng.geometric(1 / run, len(starts))
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.unique((np.repeat(starts, lengths) + within) % n_units)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
