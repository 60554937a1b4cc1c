"""How the directions of one decoder lie to each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

NEAR = 0.7
"""Features whose directions have a larger cosine say nearly the same."""

_ROWS = 2048


def max_cosines(W_dec: Tensor, rows: int = _ROWS) -> NDArray[np.float32]:
    """Each direction's largest cosine to another one of W_dec (d_sae, d_out), float32 (d_sae,).

    NaN for a direction of length 0, and for the only one of its decoder. `rows` of them are held
    against as many others at a time, each two blocks once: memory grows with rows², not d_sae².
    """
    norm = W_dec.norm(dim=1)
    unit = F.normalize(W_dec.float(), dim=1)
    unit[norm == 0] = torch.nan
    blocks = torch.split(unit, rows)
    best = [block.new_full((len(block),), -torch.inf) for block in blocks]
    for i, block in enumerate(blocks):
        for j in range(i, len(blocks)):
            cosine = (block @ blocks[j].T).nan_to_num_(nan=-torch.inf)
            if i == j:
                cosine.fill_diagonal_(-torch.inf)
            else:
                best[j] = torch.maximum(best[j], cosine.amax(0))
            best[i] = torch.maximum(best[i], cosine.amax(1))
    # Rounding takes the cosine of a direction and its copy past 1.
    found = torch.cat(best).clamp(max=1).cpu().numpy()
    return np.where(np.isfinite(found), found, np.float32(np.nan))


def read_max_cosines(tables: Path) -> NDArray[np.float32]:
    """The `max_cosines` in the tables that `analyze_sae` wrote of an SAE."""
    column = pq.read_table(tables / "vectors.parquet", columns=["max_cosine"])["max_cosine"]
    return np.asarray(column.to_numpy(), np.float32)


def decoder_metrics(max_cosine: NDArray[np.float32]) -> dict[str, float]:
    """Metrics of a decoder from its `max_cosines`; none where there are no two directions."""
    known = max_cosine[np.isfinite(max_cosine)].astype(np.float64)
    if not len(known):
        return {}
    return {
        "decoder_max_cosine": float(known.mean()),
        "decoder_near_share": float((known > NEAR).mean()),
    }
