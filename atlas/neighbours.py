"""Finds the features most like given ones: FAISS proposes, the stored activations decide.

By activation, candidates come from the inner products of signatures and are ranked by the exact
Pearson correlation over the words of the reference corpus. By decoder or encoder, the unit vectors
of one model are searched, and the cosine is exact. Answers are the same, up to rounding, as those
of the SQL macro `similar_exact`, which scores every feature.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atlas.activations import read_columns
from atlas.errors import BadInput, NotFound
from atlas.index import Cache, FlatIndex, Ranges
from atlas.store import told

if TYPE_CHECKING:
    import duckdb

MEASURES = ("activation", "decoder", "encoder")

_CANDIDATES_PER_K = 8
_MIN_CANDIDATES = 64
_SPARE = 8
"""Extra rows asked of a cosine search: float32 rounding must not cut off a true neighbour."""


@dataclass(frozen=True)
class Sae:
    """Where one SAE's features lie among the rows, which are all features by feature_id."""

    sae_id: int
    name: str
    model_id: int
    model: str
    d_model: int
    first_feature_id: int
    begin: int
    end: int


@dataclass(frozen=True)
class Hits:
    """The neighbours of one feature, best first."""

    score: NDArray[np.float64]
    row: NDArray[np.int64]


@dataclass(frozen=True)
class _WordActivations:
    """q of all features on words, compressed by feature, and the sums that Pearson's r needs."""

    indptr: NDArray[np.int64]
    word: NDArray[np.int32]
    q: NDArray[np.int32]
    mean: NDArray[np.float64]
    norm: NDArray[np.float64]
    """√(Σq² − (Σq)²/n): 0 for a feature that is never active, or always and alike."""
    n_words: int


class Neighbours:
    """Neighbour search in one state of an atlas; safe to use from several threads."""

    def __init__(self, path: Path, stamp: str, con: duckdb.DuckDBPyConnection) -> None:
        """Read the list of SAEs; all else is made at the first search that needs it.

        stamp: the atlas's, which tells whether the cache beside `path` is of this state.
        con: any connection to the atlas; used during the call only.
        """
        self.stamp = stamp
        self._cache = Cache.beside(path, stamp)
        self._lock = threading.Lock()
        self._local = threading.local()
        self._words: _WordActivations | None = None
        self._signatures: FlatIndex | None = None
        self._directions: dict[tuple[str, int], FlatIndex] = {}
        self.saes = _read_saes(con)
        self._by_name = {sae.name: sae for sae in self.saes}
        self._begins = np.array([sae.begin for sae in self.saes], np.int64)
        self._firsts = np.array([sae.first_feature_id for sae in self.saes], np.int64)
        self.n_features = self.saes[-1].end if self.saes else 0
        alive = con.execute("select alive from features order by feature_id").fetchnumpy()["alive"]
        self.alive: NDArray[np.bool_] = np.asarray(alive, bool)

    # -- names --------------------------------------------------------------------------------

    def row(self, feature: str, con: duckdb.DuckDBPyConnection) -> int:
        """Row of a feature given by name or id; NotFound, worded by SQL's feature_id, otherwise."""
        name, _, index = feature.rpartition("/")
        sae = self._by_name.get(name)
        plain = index.isascii() and index.isdigit() and str(int(index)) == index
        if sae is not None and plain and int(index) < sae.end - sae.begin:
            return sae.begin + int(index)
        with told(NotFound):
            ((feature_id,),) = con.execute("select feature_id(?::varchar)", [feature]).fetchall()
        at = int(np.searchsorted(self._firsts, feature_id, side="right")) - 1
        return self.saes[at].begin + int(feature_id) - self.saes[at].first_feature_id

    def sae_of(self, row: int) -> Sae:
        """The SAE whose feature a row is."""
        return self.saes[int(np.searchsorted(self._begins, row, side="right")) - 1]

    def named(self, rows: NDArray[np.int64]) -> Iterator[tuple[str, int]]:
        """(name, feature_id) of each row."""
        at = np.searchsorted(self._begins, rows, side="right") - 1
        for row, number in zip(rows.tolist(), at.tolist(), strict=True):
            sae = self.saes[number]
            index = row - sae.begin
            yield f"{sae.name}/{index}", sae.first_feature_id + index

    def _covered(self, within: str, con: duckdb.DuckDBPyConnection) -> list[Sae]:
        if not within:
            return self.saes
        with told(NotFound):
            ((ids,),) = con.execute("select saes_in(?::varchar)", [within]).fetchall()
        return [sae for sae in self.saes if sae.sae_id in set(ids)]

    # -- search -------------------------------------------------------------------------------

    def similar(
        self,
        features: Sequence[str],
        k: int,
        by: str,
        within: str,
        con: duckdb.DuckDBPyConnection,
    ) -> list[Hits]:
        """The k nearest features of each of `features`, names or ids, in their order.

        by: 'activation' (Pearson's r over words, of which only r > 0 counts as near), 'decoder' or
        'encoder' (cosine, within one model).
        within: name of the SAE or model to search in, '' for everything.

        Features never active have no neighbours and are nobody's.
        """
        if by not in MEASURES:
            raise BadInput(f"by is 'activation', 'decoder' or 'encoder', not {by!r}.")
        if k < 1:
            raise BadInput(f"k is the number of neighbours, at least 1, not {k}.")
        covered = self._covered(within, con)
        rows = [self.row(feature, con) for feature in features]
        live = [row for row in dict.fromkeys(rows) if self.alive[row]]
        found: dict[int, Hits] = {}
        if live and by == "activation":
            found = self._by_activation(live, k, covered, con)
        elif live:
            found = self._by_direction(live, k, by, covered, within, con)
        nothing = Hits(np.empty(0), np.empty(0, np.int64))
        return [found.get(row, nothing) for row in rows]

    def _by_activation(
        self, rows: list[int], k: int, covered: list[Sae], con: duckdb.DuckDBPyConnection
    ) -> dict[int, Hits]:
        signatures, words = self._activation_arrays(con)
        n_candidates = max(_MIN_CANDIDATES, _CANDIDATES_PER_K * k) + 1  # one may be itself
        queries = np.ascontiguousarray(signatures.vectors[rows])
        _, proposed = signatures.search(queries, n_candidates, _ranges(covered))
        found = {}
        for row, candidates in zip(rows, proposed, strict=True):
            candidates = candidates[(candidates != row) & self.alive[candidates]]
            score = self._correlations(words, row, candidates)
            found[row] = _best(score, candidates, k, score > 0)
        return found

    def _by_direction(
        self,
        rows: list[int],
        k: int,
        by: str,
        covered: list[Sae],
        within: str,
        con: duckdb.DuckDBPyConnection,
    ) -> dict[int, Hits]:
        found = {}
        models: dict[int, list[int]] = {}
        for row in rows:
            models.setdefault(self.sae_of(row).model_id, []).append(row)
        for model_id, mine in models.items():
            saes = [sae for sae in self.saes if sae.model_id == model_id]
            # Rows of this model's own matrix: its SAEs one after the other.
            sizes = [sae.end - sae.begin for sae in saes]
            offsets = dict(zip((s.sae_id for s in saes), np.cumsum([0, *sizes]), strict=False))
            searched = [sae for sae in saes if sae in covered]
            if not searched:
                raise BadInput(
                    f"Directions compare within one model: {within!r} holds none of "
                    f"{saes[0].model!r}; leave `within` out, or use by := 'activation'."
                )
            index = self._direction_index(by, saes, con)
            ranges = [
                (int(offsets[s.sae_id]), int(offsets[s.sae_id]) + s.end - s.begin) for s in searched
            ]
            rows_of_model = np.concatenate([np.arange(s.begin, s.end) for s in saes])
            local = np.searchsorted(rows_of_model, mine)
            queries = np.ascontiguousarray(index.vectors[local])
            dead = int(np.count_nonzero(~self.alive[rows_of_model]))
            _, proposed = index.search(queries, k + 1 + _SPARE + dead, ranges)
            for row, query, candidates in zip(mine, queries, proposed, strict=True):
                score = index.vectors[candidates].astype(np.float64) @ query.astype(np.float64)
                global_rows = rows_of_model[candidates]
                score = np.clip(score, -1.0, 1.0)
                usable = (global_rows != row) & self.alive[global_rows]
                found[row] = _best(score, global_rows, k, usable)
        return found

    def _correlations(
        self, words: _WordActivations, row: int, candidates: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Pearson's r over words of one feature with each candidate, float64; 0 if undefined."""
        if not len(candidates):
            return np.empty(0)
        begin, end = words.indptr[row], words.indptr[row + 1]
        own = self._scratch(words.n_words)
        own_words = words.word[begin:end]
        own[own_words] = words.q[begin:end]
        try:
            begins, ends = words.indptr[candidates], words.indptr[candidates + 1]
            lengths = ends - begins
            # The candidates' entries one after the other; each live one has at least one.
            starts = np.cumsum(lengths) - lengths
            entries = np.arange(lengths.sum()) + np.repeat(begins - starts, lengths)
            products = own[words.word[entries]] * words.q[entries]
            sum_ab = np.add.reduceat(products, starts)
        finally:
            own[own_words] = 0
        covariance = sum_ab - words.mean[row] * words.mean[candidates] * words.n_words
        spread = words.norm[row] * words.norm[candidates]
        r = np.divide(covariance, spread, out=np.zeros(len(candidates)), where=spread > 0)
        clipped: NDArray[np.float64] = np.clip(r, -1.0, 1.0)
        return clipped

    def _scratch(self, n_words: int) -> NDArray[np.int64]:
        """This thread's dense row over words, all zeros."""
        if getattr(self._local, "own", None) is None:
            self._local.own = np.zeros(n_words, np.int64)
        own: NDArray[np.int64] = self._local.own
        return own

    # -- arrays -------------------------------------------------------------------------------

    def _activation_arrays(
        self, con: duckdb.DuckDBPyConnection
    ) -> tuple[FlatIndex, _WordActivations]:
        with self._lock:
            if self._words is None or self._signatures is None:
                self._words = self._load_words(con)
                self._signatures = self._load_signatures(con)
            return self._signatures, self._words

    def _load_signatures(self, con: duckdb.DuckDBPyConnection) -> FlatIndex:
        def fill(out: NDArray[Any]) -> None:
            _copy_vectors(con, "signature", out, self.saes)

        shape = (self.n_features, _width(con, "signature"))
        return FlatIndex(self._cache.array("signatures", "<f4", shape, fill))

    def _direction_index(
        self, by: str, saes: list[Sae], con: duckdb.DuckDBPyConnection
    ) -> FlatIndex:
        key = (by, saes[0].model_id)
        with self._lock:
            if key not in self._directions:

                def fill(out: NDArray[Any]) -> None:
                    _copy_vectors(con, by, out, saes)
                    norm = np.linalg.norm(out.astype(np.float64), axis=1, keepdims=True)
                    out /= np.where(norm > 0, norm, 1.0)

                shape = (sum(sae.end - sae.begin for sae in saes), saes[0].d_model)
                name = f"{by}-{saes[0].model_id}"
                self._directions[key] = FlatIndex(self._cache.array(name, "<f4", shape, fill))
            return self._directions[key]

    def _load_words(self, con: duckdb.DuckDBPyConnection) -> _WordActivations:
        sums = con.execute(
            "select word_n_active, word_sum_q, word_sum_q2 from features order by feature_id"
        ).fetchnumpy()
        ((n_words,),) = con.execute("select n_words from corpora where corpus_id = 0").fetchall()
        n_active = np.asarray(sums["word_n_active"], np.int64)
        sum_q = np.asarray(sums["word_sum_q"], np.float64)
        sum_q2 = np.asarray(sums["word_sum_q2"], np.float64)
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(n_active)])
        n_entries = (int(indptr[-1]),)

        def fill(out: dict[str, NDArray[Any]]) -> None:
            for sae in self.saes:
                columns = read_columns(con, sae.sae_id, "words")
                mine = slice(indptr[sae.begin], indptr[sae.end])
                out["words-word"][mine] = columns.row
                out["words-q"][mine] = columns.q

        kinds = {"words-word": ("<i4", n_entries), "words-q": ("<i4", n_entries)}
        kept = self._cache.arrays(kinds, fill)
        return _WordActivations(
            indptr,
            kept["words-word"],
            kept["words-q"],
            sum_q / n_words,
            np.sqrt(np.maximum(sum_q2 - sum_q * sum_q / n_words, 0.0)),
            n_words,
        )


def _read_saes(con: duckdb.DuckDBPyConnection) -> list[Sae]:
    rows = con.execute(
        """
        select s.sae_id, s.name, m.model_id, m.name, m.d_model, s.first_feature_id, s.d_sae
        from saes as s
        join models as m using (model_id)
        order by s.first_feature_id
        """
    ).fetchall()
    saes, begin = [], 0
    for *place, first_feature_id, d_sae in rows:
        saes.append(Sae(*place, first_feature_id, begin, begin + d_sae))
        begin += d_sae
    return saes


def _ranges(saes: list[Sae]) -> Ranges:
    return [(sae.begin, sae.end) for sae in saes]


def _width(con: duckdb.DuckDBPyConnection, column: str) -> int:
    found = con.execute(f"select len({column}) from vectors limit 1").fetchall()
    return int(found[0][0]) if found else 0


def _copy_vectors(
    con: duckdb.DuckDBPyConnection, column: str, out: NDArray[np.float32], saes: list[Sae]
) -> None:
    """Fill `out` (n, d) with one column of `vectors`, the features of `saes` in their order."""
    done = 0
    for sae in saes:
        last = sae.first_feature_id + sae.end - sae.begin - 1
        query = (
            f"select {column} from vectors where feature_id between {sae.first_feature_id}"
            f" and {last} order by feature_id"
        )
        for batch in con.sql(query).to_arrow_reader(1 << 16):
            part = batch.column(0).flatten().to_numpy()
            out[done : done + batch.num_rows] = part.reshape(batch.num_rows, -1)
            done += batch.num_rows


def _best(
    score: NDArray[np.float64], row: NDArray[np.int64], k: int, usable: NDArray[np.bool_]
) -> Hits:
    """The k best of the usable candidates; equal scores go by row."""
    score, row = score[usable], row[usable]
    order = np.lexsort((row, -score))[:k]
    return Hits(score[order], row[order])
