"""Stored pairings and comparisons for the synthetic atlas, by the plainest NumPy there is.

Every two SAEs are paired by mutual best correlation over words, chosen on the even documents, and
compared by two metrics. Since each concept has one feature per SAE (`synthetic.concepts`), what
should be paired is known.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

MIN_JOINT = 5
SHIFTS = 20
PERMUTATIONS = 99
SUBSETS = 49

Columns = dict[str, list[dict[str, Any]]]


def add_pairings(add: Any, columns: Columns, n_words: int, seed: int) -> None:
    """Add pairings, feature_pairs and comparisons of every two SAEs in `columns`, all of run 0."""
    rng = np.random.default_rng([seed, 3])
    document = np.concatenate([rows["document_id"] for rows in columns["words"]])
    chooses = document % 2 == 0
    saes = columns["saes"]
    activity = [word_matrix(columns, sae, n_words) for sae in saes]
    decoders = [rows["decoder"].astype("f8") for rows in columns["vectors"]]
    found: dict[str, list[dict[str, Any]]] = {"cka": [], "mean_correlation": []}
    places = [(a, b) for a in range(len(saes)) for b in range(a + 1, len(saes))]
    for pairing_id, (a, b) in enumerate(places):
        paired = _add_pairing(add, pairing_id, saes, a, b, activity, chooses, rng)
        live = [np.flatnonzero(activity[side].any(0)) for side in (a, b)]
        R = correlations(activity[a][~chooses], activity[b][~chooses])
        for metric, value in (
            ("cka", partial(cka, decoders[a], decoders[b])),
            ("mean_correlation", partial(mean_correlation, R)),
        ):
            row = {"pairing_id": pairing_id, "metric": metric, **_judged(value, paired, live, rng)}
            found[metric].append(row)
    for family in found.values():
        for p, q in (("p", "q"), ("subset_p", "subset_q")):
            for row, one in zip(family, benjamini_hochberg([r[p] for r in family]), strict=True):
                row[q] = one
        for row in family:
            row = {name: None if value != value else value for name, value in row.items()}
            add("comparisons", run_id=0, role="pair", dims_a=None, dims_b=None, **row)


def word_matrix(columns: Columns, sae: dict[str, Any], n_words: int) -> np.ndarray:
    """q of every feature on every word, int64 (n_words, d_sae): the largest over its tokens."""
    first, width = sae["first_feature_id"], sae["d_sae"]
    tokens = columns["tokens"]
    word = np.zeros(max(rows["token"][-1] for rows in tokens) + 1, "i8")
    for rows in tokens:
        word[rows["token"]] = rows["word"]
    out = np.zeros((n_words, width), "i8")
    for rows in columns["activations"]:
        mine = (rows["feature_id"] >= first) & (rows["feature_id"] < first + width)
        at = (word[rows["token"][mine]], rows["feature_id"][mine] - first)
        np.maximum.at(out, at, rows["q"][mine])
    return out


def correlations(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Pearson's r of every column of A with every one of B, 0 where one is constant."""
    A, B = A - A.mean(0), B - B.mean(0)
    norms = np.outer(np.linalg.norm(A, axis=0), np.linalg.norm(B, axis=0))
    return np.divide(A.T @ B, norms, out=np.zeros(norms.shape), where=norms > 0)


def mutual(A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(r of all pairs that may be, i, j of the mutual best); -1 where too few units are joint."""
    joint = (A > 0).astype("i8").T @ (B > 0)
    r = np.where(joint >= MIN_JOINT, correlations(A, B), -1.0)
    i = np.arange(len(r))
    j = r.argmax(1)
    kept = (r[i, j] > -1) & (r.argmax(0)[j] == i)
    return r, np.stack([i[kept], j[kept]])


def benjamini_hochberg(p: Any) -> np.ndarray:
    """q of each p, by its definition; NaN stays and does not count."""
    p = np.array([np.nan if one is None else one for one in p], "f8")
    known = p[~np.isnan(p)]
    return np.array([
        one if np.isnan(one)
        else min(1.0, *(len(known) * x / (known <= x).sum() for x in known if x >= one))
        for one in p
    ])  # fmt: skip


def cka(X: np.ndarray, Y: np.ndarray, i: np.ndarray, j: np.ndarray) -> float:
    """Linear CKA of the unit rows X[i] and Y[j], centred; NaN for fewer than 3."""
    if len(i) < 3:
        return np.nan
    X, Y = (Z / np.linalg.norm(Z, axis=1, keepdims=True) for Z in (X[i], Y[j]))
    X, Y = X - X.mean(0), Y - Y.mean(0)
    alike = np.linalg.norm(Y.T @ X) ** 2
    return float(alike / (np.linalg.norm(X.T @ X) * np.linalg.norm(Y.T @ Y)))


def mean_correlation(R: np.ndarray, i: np.ndarray, j: np.ndarray) -> float:
    """Mean of R[i, j]; NaN for fewer than 3."""
    return float(R[i, j].mean()) if len(i) > 2 else np.nan


def _judged(
    value: Callable[[np.ndarray, np.ndarray], float], paired: tuple[np.ndarray, np.ndarray],
    live: list[np.ndarray], rng: np.random.Generator,
) -> dict[str, Any]:  # fmt: skip
    """A comparison's numbers: the value, and both its nulls."""
    ia, ib = paired
    measured = value(ia, ib)
    nulls = {
        "permutations": [value(ia, rng.permutation(ib)) for _ in range(PERMUTATIONS)],
        "subsets": [
            value(*(rng.choice(side, len(ia), replace=False) for side in live))
            for _ in range(SUBSETS)
        ],
    }
    found: dict[str, Any] = {"value": measured, "n": len(ia)}
    for name, prefix, p in (("permutations", "null", "p"), ("subsets", "subset", "subset_p")):
        null = np.array(nulls[name])
        reached = (null >= measured).sum() if measured == measured else np.nan
        found |= {
            f"n_{name}": len(null), f"{prefix}_mean": null.mean(), f"{prefix}_sd": null.std(),
            p: (1 + reached) / (1 + len(null)),
        }  # fmt: skip
    return found


def _add_pairing(
    add: Any, pairing_id: int, saes: list[dict[str, Any]], a: int, b: int,
    activity: list[np.ndarray], chooses: np.ndarray, rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Add one pairing with its pairs; return both sides' indices."""
    A, B = activity[a], activity[b]
    r_chosen, (ia, ib) = mutual(A[chooses], B[chooses])
    may_a, may_b = (((Z[chooses] > 0).sum(0) >= MIN_JOINT) for Z in (A, B))
    null = []
    for shift in rng.integers(chooses.sum() // 20, chooses.sum() * 19 // 20, SHIFTS):
        shifted, _ = mutual(A[chooses], np.roll(B[chooses], shift, axis=0))
        null.append(np.maximum(shifted.max(1), 0)[may_a])
    null = np.concatenate(null)
    p = (1 + (null >= r_chosen[ia, ib][:, None]).sum(1)) / (1 + len(null))
    # Features without a partner were searched for one too.
    q = benjamini_hochberg(np.concatenate([p, np.ones(may_a.sum() - len(p))]))[: len(p)]
    add(
        "pairings", pairing_id=pairing_id, run_id=0, sae_a=saes[a]["sae_id"],
        sae_b=saes[b]["sae_id"], subspace="all", keywords=None, method="mutual", over="words",
        min_joint=MIN_JOINT, concepts_only=False, shifts=SHIFTS, seed=0, n_a=int(may_a.sum()),
        n_b=int(may_b.sum()), n_pairs=len(ia),
    )  # fmt: skip
    add(
        "feature_pairs", pairing_id=np.full(len(ia), pairing_id, "i4"),
        feature_a=saes[a]["first_feature_id"] + ia, feature_b=saes[b]["first_feature_id"] + ib,
        r=correlations(A, B)[ia, ib], r_chosen=r_chosen[ia, ib],
        r_held_out=correlations(A[~chooses], B[~chooses])[ia, ib],
        n_both=((A > 0).astype("i8").T @ (B > 0))[ia, ib], p=p, q=q,
    )  # fmt: skip
    return ia, ib
