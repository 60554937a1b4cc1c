"""The logit lens: which tokens a feature's decoder direction promotes and suppresses.

nostalgebraist, "interpreting GPT: the logit lens" (2020), applied to dictionary directions:
effect(f, v) = (W_dec[f] * gain) @ W_U[:, v], minus its mean over the vocabulary, where gain is the
final norm's. What the norm divides by is left out, being common to all tokens, and so are its bias,
which is no effect of the feature, and the layers between the SAE and the end: for early layers read
it as a hint.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

TOP = 10
"""Promoted tokens kept, and as many suppressed ones."""

BATCH_VALUES = 1 << 24
"""Effects held at once: 64 MB of float32, whatever the vocabulary."""


class Lens(NamedTuple):
    """What turns decoder directions into effects on logits."""

    W_U: torch.Tensor
    """(d_model, n_rows) the unembedding."""
    gain: torch.Tensor
    """(d_model,) of the final norm."""
    columns: slice = slice(None)
    """The part of a decoder direction that is added to the residual stream, (d_model,)."""


def logit_lens(
    W_dec: torch.Tensor,
    W_U: torch.Tensor,
    gain: torch.Tensor,
    n_vocab: int | None = None,
    top: int = TOP,
    batch_values: int = BATCH_VALUES,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The `top` most promoted and most suppressed token ids of each feature, and their effects.

    W_dec: (n, d_model); W_U: (d_model, n_rows); gain: (d_model,); n_vocab: ids from there on are
    padding rows of the unembedding and take no part.
    Returns ids int32 and effects float32, both (n, 2, top): [:, 0] from the most promoted down,
    [:, 1] from the most suppressed up; equal effects by ascending id. Fewer than `top` where the
    vocabulary is smaller.
    """
    W_U = W_U[:, :n_vocab].float()
    # Centring the unembedding once is centring every effect over the vocabulary.
    W_U = gain.float()[:, None] * (W_U - W_U.mean(dim=1, keepdim=True))
    top = min(top, W_U.shape[1])
    n = W_dec.shape[0]
    ids = np.empty((n, 2, top), np.int32)
    effects = np.empty((n, 2, top), np.float32)
    rows = max(1, batch_values // max(W_U.shape[1], 1))
    for first in range(0, n, rows):
        batch = W_dec[first : first + rows].to(W_U.device).float() @ W_U
        for side, signed in enumerate((batch, -batch)):
            best = _top(signed, top)
            chosen = batch.gather(1, best)
            ids[first : first + rows, side] = best.cpu().numpy()
            effects[first : first + rows, side] = chosen.cpu().numpy()
    return ids, effects


def _top(values: torch.Tensor, k: int) -> torch.Tensor:
    """Columns (n, k) of the k largest values of each row by (value desc, column asc).

    `torch.topk` leaves the order of equal values open, and rows of an unembedding do repeat (tokens
    that training never saw), so the few rows with a tie at the end are sorted whole.
    """
    best, columns = values.topk(k, dim=1)
    tied = (values >= best[:, -1:]).sum(dim=1) > k
    if tied.any():
        columns[tied] = values[tied].sort(dim=1, descending=True, stable=True).indices[:, :k]
    # Among the k, order by column first and then stably by value.
    columns = columns.sort(dim=1).values
    order = values.gather(1, columns).sort(dim=1, descending=True, stable=True).indices
    return columns.gather(1, order)
