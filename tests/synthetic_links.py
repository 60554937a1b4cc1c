"""Stored joint activity for the synthetic atlas, by dense matrices of NumPy.

Linked are the neighbouring layers of every model, over tokens, and the first SAE with the last one,
over words if these are of different tokenizers. Since each concept has one feature per SAE
(`synthetic.concepts`), what goes on in the next layer is known.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from atlas.store import Atlas
from tests.synthetic_pairs import Columns, word_matrix

MIN_JOINT = 3


def add_links(add: Any, columns: Columns, n_words: int) -> None:
    """Add links, coactivations and strong_activity, all of run 0."""
    saes = columns["saes"]
    tokenizers = {rows["model_id"]: rows["tokenizer_id"] for rows in columns["models"]}
    chains: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for sae in sorted(saes, key=lambda sae: sae["layer"]):
        chains.setdefault((sae["model_id"], sae["hook"], sae["variant"]), []).append(sae)
    pairs = [pair for chain in chains.values() for pair in itertools.pairwise(chain)]
    if len(saes) > 1 and (saes[0], saes[-1]) not in pairs:
        pairs.append((saes[0], saes[-1]))
    strong: set[tuple[int, str]] = set()
    for link_id, (a, b) in enumerate(pairs):
        of_a, of_b = tokenizers[a["model_id"]], tokenizers[b["model_id"]]
        over = "tokens" if of_a == of_b else "words"
        A, B = (
            word_matrix(columns, sae, n_words)
            if over == "words"
            else token_matrix(columns, sae, of_a)
            for sae in (a, b)
        )
        ia, ib, both, both_strong, sum_ab = joint_statistics(A, B, MIN_JOINT)
        add(
            "coactivations", link_id=np.full(len(ia), link_id, "i4"),
            feature_a=a["first_feature_id"] + ia, feature_b=b["first_feature_id"] + ib,
            n_both=both, n_both_strong=both_strong, sum_ab=sum_ab,
            pearson=_pearson(A[:, ia], B[:, ib], sum_ab),
        )  # fmt: skip
        add(
            "links", link_id=link_id, run_id=0, sae_a=a["sae_id"], sae_b=b["sae_id"], over=over,
            min_joint=MIN_JOINT, n=len(A), n_pairs=len(ia),
        )  # fmt: skip
        for sae, Z in ((a, A), (b, B)):
            if (sae["sae_id"], over) not in strong:
                strong.add((sae["sae_id"], over))
                add(
                    "strong_activity", feature_id=sae["first_feature_id"] + np.arange(sae["d_sae"]),
                    over=[over] * sae["d_sae"], n_strong=is_strong(Z).sum(0),
                )  # fmt: skip


def _pearson(A: np.ndarray, B: np.ndarray, sum_ab: np.ndarray) -> np.ndarray:
    """r of each column of A with the same of B, from sums without an error, as in SQL."""
    n = len(A)
    over_a, over_b = (n * np.square(Z).sum(0) - Z.sum(0) ** 2 for Z in (A, B))
    return (n * sum_ab - A.sum(0) * B.sum(0)) / (np.sqrt(over_a) * np.sqrt(over_b))


def correlate(store: Atlas) -> None:
    """Fill in what follows from the sums of stored pairs: Pearson's r."""
    store.execute(
        "update coactivations set pearson = told.r from (select link_id, feature_id_a,"
        " feature_id_b, pearson(n, sum_a, sum_b, sum_a2, sum_b2, sum_ab) as r from _joint_sums)"
        " as told where told.link_id = coactivations.link_id"
        " and feature_id_a = feature_a and feature_id_b = feature_b"
    )


def token_matrix(columns: Columns, sae: dict[str, Any], tokenizer_id: int) -> np.ndarray:
    """q of every feature on every token, int64 (n_tokens, d_sae)."""
    token = columns["tokens"][tokenizer_id]["token"]
    first, width = sae["first_feature_id"], sae["d_sae"]
    out = np.zeros((len(token), width), "i8")
    for rows in columns["activations"]:
        mine = (rows["feature_id"] >= first) & (rows["feature_id"] < first + width)
        at = (rows["token"][mine] - token[0], rows["feature_id"][mine] - first)
        out[at] = rows["q"][mine]
    return out


def is_strong(Z: np.ndarray) -> np.ndarray:
    """Where an activation exceeds a fifth of its column's largest, bool as Z."""
    return Z / np.maximum(Z.max(0), 1) > 0.2


def joint_statistics(
    A: np.ndarray, B: np.ndarray, min_joint: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(i, j, n_both, n_both_strong, Σ A·B) of all pairs of columns with enough rows in common.

    A, B: int64 (n, d_a) and (n, d_b), no entry below zero.
    """
    both = (A > 0).astype("i8").T @ (B > 0).astype("i8")
    both_strong = is_strong(A).astype("i8").T @ is_strong(B).astype("i8")
    ia, ib = np.nonzero(both >= min_joint)
    return ia, ib, both[ia, ib], both_strong[ia, ib], (A.T @ B)[ia, ib]
