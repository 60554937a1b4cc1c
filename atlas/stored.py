"""Dictionaries as an atlas stores them: reads the weights of one back from its tables.

Encoder and decoder lie in `vectors`, a row a latent; biases and scales in `saes`; what few
architectures have beside these in `sae_tensors`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from atlas.errors import NotFound
from atlas.sae import SaeWeights
from atlas.store import Atlas, told

_SETTINGS = (
    "architecture",
    "activation",
    "k",
    "normalize",
    "input_scale",
    "output_scale",
)

_ROWS = 4096
"""Latents read at a time."""


def load_weights(atlas: Atlas, sae: str) -> SaeWeights:
    """The weights of the SAE called `sae`, float32 on the CPU; NotFound if there is none."""
    columns = (*_SETTINGS, "d_in", "d_out", "d_sae", "first_feature_id", "pre_bias", "b_dec")
    with told(NotFound):
        row = (
            atlas.cursor()
            .execute(
                f"select sae_id, {', '.join(columns)} from saes where sae_id = (select sae_id(?))",
                [sae],
            )
            .fetchone()
        )
    assert row is not None  # sae_id() tells of a name that is none
    stored = dict(zip(("sae_id", *columns), row, strict=True))
    values: dict[str, Any] = {name: stored[name] for name in _SETTINGS}
    values |= _latents(atlas, stored) | _tensors(atlas, stored["sae_id"])
    values |= {name: torch.tensor(stored[name]) for name in ("pre_bias", "b_dec")}
    return SaeWeights(**values)


def _latents(atlas: Atlas, stored: dict[str, Any]) -> dict[str, Any]:
    """What `vectors` holds, a batch of rows at a time."""
    d_in, d_out, d_sae = stored["d_in"], stored["d_out"], stored["d_sae"]
    encoder, decoder = torch.empty(d_sae, d_in), torch.empty(d_sae, d_out)
    bias, threshold = torch.empty(d_sae), torch.full((d_sae,), torch.nan)
    first = stored["first_feature_id"]
    rows_wanted = atlas.cursor().sql(
        "select encoder, decoder, encoder_bias, coalesce(threshold, 'nan'::float) as threshold"
        " from vectors where feature_id between ? and ? order by feature_id",
        params=[first, first + d_sae - 1],
    )
    done = 0
    for batch in rows_wanted.to_arrow_reader(_ROWS):
        rows = slice(done, done + batch.num_rows)
        for i, matrix in enumerate((encoder, decoder)):
            numbers = np.array(batch.column(i).flatten(), np.float32)
            matrix[rows] = torch.from_numpy(numbers).view(batch.num_rows, -1)
        for i, column in enumerate((bias, threshold), start=2):
            column[rows] = torch.from_numpy(np.array(batch.column(i), np.float32))
        done += batch.num_rows
    assert done == d_sae
    return {
        "W_enc": encoder.T.contiguous(),
        "b_enc": bias,
        "W_dec": decoder,
        "threshold": None if threshold.isnan().any() else threshold,
    }


def _tensors(atlas: Atlas, sae_id: int) -> dict[str, Tensor]:
    """W_skip, W_router and b_router where it has them."""
    found: dict[str, list[list[float]]] = {}
    for name, entries in atlas.rows(
        "select tensor, entries from sae_tensors where sae_id = ? order by tensor, row", [sae_id]
    ):
        found.setdefault(name, []).append(entries)
    tensors = {name: torch.tensor(rows) for name, rows in found.items()}
    return {name: t[0] if name.startswith("b_") else t for name, t in tensors.items()}
