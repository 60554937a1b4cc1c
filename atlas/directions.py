"""Reads features' vectors, a row each, from the table `vectors` into NumPy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import duckdb

_BATCH = 1 << 16
"""Rows of one Arrow batch."""


def fill_vectors(
    con: duckdb.DuckDBPyConnection, column: str, first_feature_id: int, out: NDArray[Any]
) -> None:
    """Fill `out` (n, d) with a column of `vectors`: those of n features from the first one on."""
    done = 0
    query = (
        f"select {column} from vectors where feature_id between {first_feature_id}"
        f" and {first_feature_id + len(out) - 1} order by feature_id"
    )
    for batch in con.sql(query).to_arrow_reader(_BATCH):
        part = batch.column(0).flatten().to_numpy()
        out[done : done + batch.num_rows] = part.reshape(batch.num_rows, -1)
        done += batch.num_rows


def read_vectors(con: duckdb.DuckDBPyConnection, column: str, sae_id: int) -> NDArray[np.float32]:
    """One column of `vectors` of a whole SAE, 'encoder', 'decoder' or 'signature': (d_sae, d)."""
    ((first, d_sae, width),) = con.execute(
        f"""
        select saes.first_feature_id, saes.d_sae, len(vectors.{column})
        from saes
        join vectors on vectors.feature_id = saes.first_feature_id
        where saes.sae_id = ?
        """,
        [sae_id],
    ).fetchall()
    out = np.empty((d_sae, width), np.float32)
    fill_vectors(con, column, first, out)
    return out
