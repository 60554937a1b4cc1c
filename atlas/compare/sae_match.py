"""Pairs by weights alone: SAE Match (Balagansky et al., arXiv 2410.07656), for SAEs of one space.

Thresholds are folded into the weights: W_enc/θ, b_enc/θ and W_dec·θ reconstruct the same with every
threshold 1, so that features of different scales compare. Then comes the one-to-one assignment with
the least sum of mean squared errors of encoder (its bias one coordinate more) and decoder.
Directions are taken in the units of the hook point, as of the SAEs that were published.

Where not every feature has a threshold, each is scaled to a decoder of length 1 instead, which
reconstructs the same as well, and biases do not count: they have then no unit that compares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from atlas.compare.assignment import assign
from atlas.directions import read_vectors
from atlas.errors import BadInput
from atlas.progress import Progress

if TYPE_CHECKING:
    import duckdb

    from atlas.compare.pairing import Side

Rows = NDArray[np.int64]
Reals = NDArray[np.float64]

_DENSE = 4096 * 4096
"""Pairs up to which every one is a candidate: 128 MiB of distances."""

_NEAREST = 64
"""Candidates of each feature where there are more."""

_ROWS_AT_ONCE = 1024


class Weights:
    """One SAE's encoder and decoder, in the units of its hook points."""

    def __init__(self, con: duckdb.DuckDBPyConnection, sae_id: int) -> None:
        ((self.name, input_scale, output_scale, pre_bias),) = con.execute(
            "select name, input_scale, output_scale, pre_bias from saes where sae_id = ?", [sae_id]
        ).fetchall()
        self.spaces: dict[str, str] = dict(
            con.execute(
                "select measure, space from sae_spaces where sae_id = ? order by measure desc",
                [sae_id],
            ).fetchall()
        )
        scalars = con.execute(
            """
            select encoder_bias, threshold
            from vectors
            join features using (feature_id)
            where features.sae_id = ?
            order by feature_id
            """,
            [sae_id],
        ).fetchnumpy()
        encoder = read_vectors(con, "encoder", sae_id).astype(np.float64)
        bias = np.asarray(scalars["encoder_bias"], np.float64) - encoder @ np.asarray(pre_bias)
        self.encoder: Reals = encoder * input_scale
        """(d_sae, d_in)"""
        self.bias: Reals = bias
        """(d_sae,): of the encoder, with what is subtracted from its input."""
        self.decoder: Reals = read_vectors(con, "decoder", sae_id) / np.float64(output_scale)
        """(d_sae, d_out)"""
        self.threshold: Reals = np.ma.filled(
            np.ma.asarray(scalars["threshold"], np.float64), np.nan
        )
        """(d_sae,), NaN where the SAE has none."""

    def folded(self, by_threshold: bool) -> Reals:
        """(d_sae, ·): rows whose squared distances are the sums of mean squared errors."""
        if by_threshold:
            factor = self.threshold
        else:
            length = np.linalg.norm(self.decoder, axis=1)
            factor = 1 / np.where(length > 0, length, 1.0)
        encoder = self.encoder / factor[:, None]
        if by_threshold:
            encoder = np.hstack([encoder, (self.bias / factor)[:, None]])
        return np.hstack(
            [
                encoder / np.sqrt(self.encoder.shape[1]),
                self.decoder * factor[:, None] / np.sqrt(self.decoder.shape[1]),
            ]
        )


def match(
    a: Side, b: Side, take_a: Rows, take_b: Rows, progress: Progress
) -> tuple[Rows, Rows, Reals]:
    """One-to-one pairs of two SAEs' features by their weights, and their distances.

    take_a, take_b: indices of the features that may be paired. The fewer ones all get a partner.
    Exact up to 4,096 features a side; of more, each one's 64 nearest are considered, and that is
    told; then some features may stay alone.

    BadInput where the directions of the two lie in different spaces.
    """
    ours = a.read(lambda con: Weights(con, a.sae_id))
    theirs = b.read(lambda con: Weights(con, b.sae_id))
    if ours.spaces != theirs.spaces or ours.encoder.shape[1:] != theirs.encoder.shape[1:]:
        raise BadInput(
            f"Directions of {ours.name!r} ({_told(ours)}) do not compare with those of "
            f"{theirs.name!r} ({_told(theirs)}); match SAEs of one model's residual stream, or "
            "pair by activations: method='mutual'."
        )
    by_threshold = bool((ours.threshold > 0).all() and (theirs.threshold > 0).all())
    x, y = ours.folded(by_threshold)[take_a], theirs.folded(by_threshold)[take_b]
    if len(x) * len(y) <= _DENSE:
        row, column = _exact(x, y)
    else:
        progress.notice(
            f"Among so many features each is matched with one of its {_NEAREST} nearest, or with "
            "none."
        )
        row, column = _among_nearest(x, y)
    distance = np.square(x[row] - y[column]).sum(axis=1)
    return take_a[row], take_b[column], distance


def _exact(x: Reals, y: Reals) -> tuple[Rows, Rows]:
    from scipy.optimize import linear_sum_assignment

    row, column = linear_sum_assignment(_squared_distances(x, y))
    return row.astype(np.int64), column.astype(np.int64)


def _among_nearest(x: Reals, y: Reals) -> tuple[Rows, Rows]:
    row, column, distance = _nearest(x, y)
    column_too, row_too, distance_too = _nearest(y, x)
    row, column = np.concatenate([row, row_too]), np.concatenate([column, column_too])
    distance = np.concatenate([distance, distance_too])
    _, first = np.unique(row * len(y) + column, return_index=True)
    row, column, distance = row[first], column[first], distance[first]
    # One pair more must outweigh any distance that it costs: first as many as possible, then near.
    worth = 2.0 * distance.max() * min(len(x), len(y)) + 1.0
    taken = assign(row, column, worth - distance)
    return row[taken], column[taken]


def _nearest(x: Reals, y: Reals) -> tuple[Rows, Rows, Reals]:
    """The `_NEAREST` rows of y nearest to each row of x, as (row of x, row of y, distance)."""
    found = []
    for begin in range(0, len(x), _ROWS_AT_ONCE):
        distance = _squared_distances(x[begin : begin + _ROWS_AT_ONCE], y)
        near = np.argpartition(distance, min(_NEAREST, len(y)) - 1, axis=1)[:, :_NEAREST]
        row = np.repeat(np.arange(len(distance)), near.shape[1])
        column = near.ravel()
        found.append((begin + row, column, distance[row, column]))
    row, column, distance = map(np.concatenate, zip(*found, strict=True))
    return row, column, distance


def _squared_distances(x: Reals, y: Reals) -> Reals:
    squares = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1)
    distances: Reals = np.maximum(squares - 2 * (x @ y.T), 0.0)
    return distances


def _told(weights: Weights) -> str:
    return ", ".join(f"{measure} in {space}" for measure, space in weights.spaces.items())
