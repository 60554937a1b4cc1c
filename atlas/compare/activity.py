"""One SAE's activations over the units of a corpus, by feature and by unit, as exact integers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from atlas.activations import Over, read_columns

if TYPE_CHECKING:
    import duckdb


class ByUnit(NamedTuple):
    """Compressed by unit: on unit `u`, `feature[indptr[u]:indptr[u + 1]]` are active, ascending."""

    indptr: NDArray[np.int64]
    """(n_units + 1,)"""
    feature: NDArray[np.int32]
    """(nnz,)"""
    q: NDArray[np.int32]
    """(nnz,)"""


@dataclass(frozen=True, eq=False)
class Activity:
    """Which features of one SAE are active on which units (words or tokens), and how strongly.

    Feature `i` is active on `unit[indptr[i]:indptr[i + 1]]`, ascending, with fixed-point
    activations `q` > 0; on every other unit its activation is 0.
    """

    n_units: int
    indptr: NDArray[np.int64]
    """(d_sae + 1,)"""
    unit: NDArray[np.int32]
    """(nnz,)"""
    q: NDArray[np.int32]
    """(nnz,)"""

    @property
    def d_sae(self) -> int:
        """Number of features, dead ones included."""
        return len(self.indptr) - 1

    @cached_property
    def n_active(self) -> NDArray[np.int64]:
        """(d_sae,): units on which each feature is active."""
        return np.diff(self.indptr)

    @cached_property
    def sum_q(self) -> NDArray[np.int64]:
        """(d_sae,): Σq."""
        return self._totals(self.q)

    @cached_property
    def sum_q2(self) -> NDArray[np.int64]:
        """(d_sae,): Σq²."""
        return self._totals(np.square(self.q, dtype=np.int64))

    @cached_property
    def inverse_norm(self) -> NDArray[np.float64]:
        """(d_sae,): 1/√(n·Σq² − (Σq)²), the share of each feature in Pearson's denominator.

        0 for a feature that never varies: of it there is no correlation.
        """
        total = self.sum_q.astype(np.float64)
        spread = self.n_units * self.sum_q2.astype(np.float64) - np.square(total)
        spread[self._constant()] = 0.0
        return np.divide(1.0, np.sqrt(spread), out=np.zeros(self.d_sae), where=spread > 0)

    @cached_property
    def by_unit(self) -> ByUnit:
        """The same entries the other way round."""
        import scipy.sparse

        columns = scipy.sparse.csc_array(
            (self.q, self.unit, self.indptr), shape=(self.n_units, self.d_sae)
        )
        rows = columns.tocsr()
        return ByUnit(
            rows.indptr.astype(np.int64, copy=False),
            rows.indices.astype(np.int32, copy=False),
            rows.data,
        )

    def only(self, mask: NDArray[np.bool_]) -> Activity:
        """The activations on the units that `mask` (n_units,) holds, renumbered 0, 1, …"""
        number = np.cumsum(mask, dtype=np.int32) - np.int32(1)
        kept = mask[self.unit]
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
        unit = cast("NDArray[np.int32]", number[self.unit[kept]])
        return Activity(int(mask.sum()), before[self.indptr], unit, self.q[kept])

    def _totals(self, values: NDArray[Any]) -> NDArray[np.int64]:
        before = np.zeros(len(values) + 1, np.int64)
        np.cumsum(values, dtype=np.int64, out=before[1:])
        return np.diff(before[self.indptr])

    def _constant(self) -> NDArray[np.bool_]:
        """(d_sae,): never active, or on every unit alike; exact where float64 would round."""
        constant: NDArray[np.bool_] = self.n_active == 0
        for index in np.flatnonzero(self.n_active == self.n_units):
            q = self.q[self.indptr[index] : self.indptr[index + 1]]
            constant[index] = not len(q) or q.min() == q.max()
        return constant


def read_activity(con: duckdb.DuckDBPyConnection, sae_id: int, over: Over) -> Activity:
    """The activations of an SAE that exists, on all units of the reference corpus.

    over: 'words', on which every SAE of the atlas meets; or 'tokens' of the SAE's own tokenizer.
    """
    found = read_columns(con, sae_id, over)
    return Activity(found.n_rows, found.indptr, found.row, found.q)


def read_documents(con: duckdb.DuckDBPyConnection, sae_id: int, over: Over) -> NDArray[np.int64]:
    """(n_units,), ascending: the document_id of each unit of `read_activity`."""
    query = "select document_id from words order by word"
    if over == "tokens":
        query = f"""
            select tokens.document_id
            from saes
            join models using (model_id)
            join tokenizers using (tokenizer_id)
            join tokens
                on tokens.token between tokenizers.first_token
                and tokenizers.first_token + tokenizers.n_tokens - 1
            where saes.sae_id = {sae_id:d}
            order by tokens.token
        """
    return np.asarray(con.execute(query).fetchnumpy()["document_id"], np.int64)
