"""Finds the features most like given ones: FAISS proposes, the stored activations decide.

By activation, candidates come from the inner products of signatures and are ranked by the exact
Pearson correlation over the words of the reference corpus. By decoder or encoder, the unit vectors
of one space (view `sae_spaces`) are searched, and the cosine is exact. Answers are the same, up to
rounding, as those of the SQL macro `similar_exact`, which scores every feature.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atlas.activations import read_columns
from atlas.directions import fill_vectors
from atlas.errors import BadInput, NotFound
from atlas.index import Cache, FlatIndex, Ranges
from atlas.store import told

if TYPE_CHECKING:
    import duckdb

    Connect = Callable[[], duckdb.DuckDBPyConnection]

MEASURES = ("activation", "decoder", "encoder")

_SPACES = """
    select spaces.measure, spaces.space, spaces.width, spaces.sae_id
    from sae_spaces as spaces join saes using (sae_id)
    order by saes.first_feature_id
"""

_SPACES_OF_FORMAT_1 = """
    select unnest(['encoder', 'decoder']), models.name || '/residual', saes.d_in, saes.sae_id
    from saes join models using (model_id)
    order by saes.first_feature_id
"""
"""An atlas that was never opened for writing since has SAEs of the residual stream alone."""

_MAX_DIGITS = 18
"""Of an index or id: more do not fit the table's BIGINT."""

_CANDIDATES_PER_K = 8
_MIN_CANDIDATES = 64
_SPARE = 8
"""Extra rows asked of a cosine search: float32 rounding must not cut off a true neighbour."""


@dataclass(frozen=True)
class Sae:
    """Where one SAE's features lie among the rows, which are all features by feature_id."""

    sae_id: int
    name: str
    model: str
    first_feature_id: int
    begin: int
    end: int


@dataclass(frozen=True)
class Hits:
    """The neighbours of one feature, best first."""

    score: NDArray[np.float64]
    row: NDArray[np.int64]


@dataclass(frozen=True)
class _Space:
    """Directions that compare; the rows of their matrix are the features of its SAEs in order."""

    measure: str
    """'decoder' or 'encoder'."""
    name: str
    width: int
    saes: list[Sae]
    rows: NDArray[np.int64]
    """Row among all features of each of the space's rows, ascending."""

    def local(self, sae: Sae) -> tuple[int, int]:
        """The range of an SAE of this space among the space's rows."""
        begin = int(np.searchsorted(self.rows, sae.begin))
        return begin, begin + sae.end - sae.begin

    @property
    def array(self) -> str:
        """Name of the cached matrix: fit for any file system, and no other space's."""
        readable = re.sub(r"[^a-z0-9_.+-]+", "_", self.name.lower())[:80]
        return f"{self.measure}-{readable}-{hashlib.sha256(self.name.encode()).hexdigest()[:12]}"


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

    def __init__(self, path: Path, stamp: str, connect: Connect) -> None:
        """Read the list of SAEs; all else is made at the first search that needs it.

        stamp: the atlas's, which tells whether the cache beside `path` is of this state.
        connect: makes a connection to the atlas, which is closed after use.
        """
        self.stamp = stamp
        self._connect = connect
        self._cache = Cache.beside(path, stamp)
        self._lock = threading.Lock()
        self._local = threading.local()
        self._words: _WordActivations | None = None
        self._signatures: FlatIndex | None = None
        self._directions: dict[tuple[str, str], FlatIndex] = {}
        with closing(connect()) as con:
            self.saes = _read_saes(con)
            self._space_of = _read_spaces(con, self.saes)
            (alive,) = _columns(con, "alive")
        self._by_name = {sae.name: sae for sae in self.saes}
        self._begins = np.array([sae.begin for sae in self.saes], np.int64)
        self._firsts = np.array([sae.first_feature_id for sae in self.saes], np.int64)
        self.n_features = self.saes[-1].end if self.saes else 0
        self.alive: NDArray[np.bool_] = alive.astype(bool)

    # -- names --------------------------------------------------------------------------------

    def row(self, feature: str) -> int:
        """Row of a feature given by name or id; NotFound, worded by SQL's feature_id, otherwise."""
        name, slash, index = feature.rpartition("/")
        if index.isascii() and index.isdigit() and len(index) <= _MAX_DIGITS:
            number = int(index)
            if not slash:
                at = int(np.searchsorted(self._firsts, number, side="right")) - 1
                sae = self.saes[at] if at >= 0 else None
                number -= sae.first_feature_id if sae else 0
            else:
                sae = self._by_name.get(name) if str(number) == index else None
            if sae and number < sae.end - sae.begin:
                return sae.begin + number
        self._ask("select feature_id(?::varchar)", feature)
        raise NotFound(f"There is no feature {feature!r} in this atlas.")

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

    def _covered(self, within: str) -> list[Sae]:
        if not within:
            return self.saes
        covered = [sae for sae in self.saes if within in (sae.name, sae.model)]
        if not covered:
            fitting = set(self._ask("select saes_in(?::varchar)", within))
            covered = [sae for sae in self.saes if sae.sae_id in fitting]
        return covered

    def _ask(self, query: str, name: str) -> Any:
        """What SQL answers about a name; NotFound in its words for one that is not there."""
        with closing(self._connect()) as con, told(NotFound):
            return con.execute(query, [name]).fetchall()[0][0]

    # -- search -------------------------------------------------------------------------------

    def similar(self, features: Sequence[str], k: int, by: str, within: str) -> list[Hits]:
        """The k nearest features of each of `features`, names or ids, in their order.

        by: 'activation' (Pearson's r over words, of which only r > 0 counts as near), 'decoder' or
        'encoder' (cosine, within one space).
        within: name of the SAE or model to search in, or a pattern, '' for everything.

        Features never active have no neighbours and are nobody's. BadInput where `within` holds
        no direction that could be compared.
        """
        if by not in MEASURES:
            raise BadInput(f"by is 'activation', 'decoder' or 'encoder', not {by!r}.")
        if k < 1:
            raise BadInput(f"k is the number of neighbours, at least 1, not {k}.")
        covered = self._covered(within)
        rows = [self.row(feature) for feature in features]
        live = [row for row in dict.fromkeys(rows) if self.alive[row]]
        found: dict[int, Hits] = {}
        if live and by == "activation":
            found = self._by_activation(live, k, covered)
        elif live:
            found = self._by_direction(live, k, by, covered, within)
        nothing = Hits(np.empty(0), np.empty(0, np.int64))
        return [found.get(row, nothing) for row in rows]

    def _by_activation(self, rows: list[int], k: int, covered: list[Sae]) -> dict[int, Hits]:
        signatures, words = self._activation_arrays()
        n_candidates = max(_MIN_CANDIDATES, _CANDIDATES_PER_K * k) + 1  # one may be itself
        queries = np.ascontiguousarray(signatures.vectors[rows])
        _, proposed = signatures.search(queries, n_candidates, _ranges(covered))
        found = {}
        for row, candidates in zip(rows, proposed, strict=True):
            candidates = candidates[(candidates != row) & self.alive[candidates]]
            score = self._correlations(words, row, candidates)
            found[row] = _best(score[score > 0], candidates[score > 0], k)
        return found

    def _by_direction(
        self,
        rows: list[int],
        k: int,
        by: str,
        covered: list[Sae],
        within: str,
    ) -> dict[int, Hits]:
        found = {}
        ids = {sae.sae_id for sae in covered}
        spaces: dict[str, tuple[_Space, list[int]]] = {}
        for row in rows:
            space = self._space_of[by, self.sae_of(row).sae_id]
            spaces.setdefault(space.name, (space, []))[1].append(row)
        for space, mine in spaces.values():
            ranges = [space.local(sae) for sae in space.saes if sae.sae_id in ids]
            if not ranges:
                raise BadInput(
                    f"Directions compare within one space: {within!r} has no {by}s in "
                    f"{space.name!r} (see sae_spaces; for crosscoders similar_at); leave `within` "
                    "out, or compare by activation."
                )
            index = self._direction_index(space)
            queries = index.vectors[np.searchsorted(space.rows, mine)]
            hits = self._cosines(index, space, mine, queries, k + 1 + _SPARE, ranges)
            n_searched = sum(end - begin for begin, end in ranges)
            for place, row in enumerate(mine):
                score, near = hits[place]
                if len(score) < k and n_searched > k + 1 + _SPARE:
                    # Nothing but opposite directions and dead features left: score them all.
                    ((score, near),) = self._cosines(
                        index, space, [row], queries[place : place + 1], n_searched, ranges
                    )
                found[row] = _best(score, near, k)
        return found

    def _cosines(
        self,
        index: FlatIndex,
        space: _Space,
        rows: list[int],
        queries: NDArray[np.float32],
        n: int,
        ranges: Ranges,
    ) -> list[tuple[NDArray[np.float64], NDArray[np.int64]]]:
        """(cosine, row) of those with one among the n nearest of each query, itself left out."""
        _, proposed = index.search(queries, n, ranges)
        found = []
        for row, query, candidates in zip(rows, queries, proposed, strict=True):
            near, vectors = space.rows[candidates], index.vectors[candidates]
            score = vectors.astype(np.float64) @ query
            usable = near != row
            if not score.all():  # rows of zeros, which dead features have, have no cosine
                usable &= vectors.any(axis=1) & query.any()
            found.append((np.clip(score[usable], -1.0, 1.0), near[usable]))
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
            # The candidates' entries one after the other; each live one has at least one.
            pieces = [slice(*one) for one in zip(begins.tolist(), ends.tolist(), strict=True)]
            products = own[np.concatenate([words.word[piece] for piece in pieces])]
            products *= np.concatenate([words.q[piece] for piece in pieces])
            lengths = ends - begins
            sum_ab = np.add.reduceat(products, np.cumsum(lengths) - lengths)
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

    def _activation_arrays(self) -> tuple[FlatIndex, _WordActivations]:
        with self._lock:
            if self._words is None or self._signatures is None:
                with closing(self._connect()) as con:
                    self._words = self._load_words(con)
                    self._signatures = self._load_signatures(con)
            return self._signatures, self._words

    def _load_signatures(self, con: duckdb.DuckDBPyConnection) -> FlatIndex:
        def fill(out: NDArray[Any]) -> None:
            _copy_vectors(con, "signature", out, self.saes)

        shape = (self.n_features, _width(con, "signature"))
        return FlatIndex(self._cache.array("signatures", "<f4", shape, fill))

    def _direction_index(self, space: _Space) -> FlatIndex:
        key = (space.measure, space.name)
        with self._lock:
            if key not in self._directions:

                def fill(out: NDArray[Any]) -> None:
                    with closing(self._connect()) as con:
                        _copy_vectors(con, space.measure, out, space.saes)
                    norm = np.linalg.norm(out, axis=1, keepdims=True)
                    out /= np.where(norm > 0, norm, 1.0)
                    out[~self.alive[space.rows]] = 0.0  # nobody's neighbours

                shape = (len(space.rows), space.width)
                self._directions[key] = FlatIndex(
                    self._cache.array(space.array, "<f4", shape, fill)
                )
            return self._directions[key]

    def _load_words(self, con: duckdb.DuckDBPyConnection) -> _WordActivations:
        n_active, sum_q, sum_q2 = _columns(con, "word_n_active", "word_sum_q", "word_sum_q2")
        ((n_words,),) = con.execute("select n_words from corpora where corpus_id = 0").fetchall()
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
            np.sqrt(np.maximum(sum_q2 - sum_q.astype(np.float64) ** 2 / n_words, 0.0)),
            n_words,
        )


def _read_saes(con: duckdb.DuckDBPyConnection) -> list[Sae]:
    rows = con.execute(
        """
        select s.sae_id, s.name, m.name, s.first_feature_id, s.d_sae
        from saes as s
        join models as m using (model_id)
        order by s.first_feature_id
        """
    ).fetchall()
    saes: list[Sae] = []
    begin = 0
    for sae_id, name, model, first_feature_id, d_sae in rows:
        end = begin + d_sae
        saes.append(Sae(sae_id, name, model, first_feature_id, begin, end))
        begin = end
    return saes


def _read_spaces(con: duckdb.DuckDBPyConnection, saes: list[Sae]) -> dict[tuple[str, int], _Space]:
    """The space of every SAE's directions by (measure, sae_id)."""
    ((format,),) = con.execute("select value from meta where key = 'format'").fetchall()
    found = con.execute(_SPACES if int(format) > 1 else _SPACES_OF_FORMAT_1).fetchall()
    by_id = {sae.sae_id: sae for sae in saes}
    members: dict[tuple[str, str], list[Sae]] = {}
    widths: dict[tuple[str, str], int] = {}
    for measure, name, width, sae_id in found:
        members.setdefault((measure, name), []).append(by_id[sae_id])
        widths[measure, name] = width
    return {
        (measure, sae.sae_id): space
        for (measure, name), mine in members.items()
        for space in [_Space(measure, name, widths[measure, name], mine, _rows(mine))]
        for sae in mine
    }


def _rows(saes: list[Sae]) -> NDArray[np.int64]:
    return np.concatenate([np.arange(sae.begin, sae.end) for sae in saes])


def _columns(con: duckdb.DuckDBPyConnection, *names: str) -> list[NDArray[Any]]:
    """Columns of the table features, in the order of feature_id."""
    query = f"select {', '.join(names)} from features order by feature_id"
    found = con.execute(query).fetchnumpy()
    return [np.asarray(found[name]) for name in names]


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
        mine = out[done : done + sae.end - sae.begin]
        fill_vectors(con, column, sae.first_feature_id, mine)
        done += len(mine)


def _best(score: NDArray[np.float64], row: NDArray[np.int64], k: int) -> Hits:
    """The k best candidates; equal scores go by row."""
    order = np.lexsort((row, -score))[:k]
    return Hits(score[order], row[order])
