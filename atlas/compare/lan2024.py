"""Pairs of features as Lan et al. 2024 (arXiv 2410.06981) published them, for reproduction.

Their step 3 standardises each feature over all tokens (standard deviation with n − 1, products
divided by n) and gives every feature of B the feature of A with the largest product, so many to
one. Step 5 drops pairs of which one fires on non-concepts, or which share none of their five top
tokens, as their notebooks do; in their pipeline's code a slip undoes this step. Step 6 keeps of
each A-feature's pairs the one seen first, which is that of the lowest B-feature, not the best.
Step 7 drops r ≤ 0.1.

Not as published: tokens of padding and beginning of text do not exist in an atlas; activations
are those that the SAE's activation function leaves, where they took TopK SAEs' before TopK; a
B-feature that correlates positively with nothing is not given an arbitrary A-feature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from atlas.compare.products import best_partners

if TYPE_CHECKING:
    from atlas.compare.pairing import Side

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]

_LEAST_R = 0.1


def published_pairs(a: Side, b: Side, take_a: Mask, take_b: Mask) -> tuple[Rows, Rows]:
    """The pairs of two SAEs of one tokenizer, sides over tokens, by index of B's feature.

    take_a, take_b: (d_sae,), the features that may be paired.
    """
    best = best_partners(a.activity, b.activity, 1, take_a=take_a, take_b=take_b)
    (ib,) = np.nonzero(best.partner_b >= 0)
    ia = best.partner_b[ib].astype(np.int64)
    kept = a.of_concepts[ia] & b.of_concepts[ib]
    kept &= [
        not a.top_texts[i].isdisjoint(b.top_texts[j])
        for i, j in zip(ia.tolist(), ib.tolist(), strict=True)
    ]
    ia, ib = ia[kept], ib[kept]
    _, first = np.unique(ia, return_index=True)
    first.sort()
    ia, ib = ia[first], ib[first]
    n = a.activity.n_units
    strong = best.r_b[ib] * (n - 1) / n > _LEAST_R
    return ia[strong], ib[strong]
