"""Loads one SAE's activations on the reference corpus as a sparse matrix, over tokens or words.

Rows are tokens of the SAE's tokenizer, or the words that all models share; columns are features. A
word's activation is the largest over its tokens. Values are the stored fixed-point integers, exact
in any sum, or activations in the SAE's units.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atlas.errors import AtlasError, NotFound
from atlas.store import told

if TYPE_CHECKING:
    import duckdb
    import scipy.sparse

    from atlas.store import Atlas

Over = Literal["tokens", "words"]
Units = Literal["q", "activation"]

_BATCH = 1 << 18
"""Rows of one Arrow batch: large enough that Python's share of the time vanishes."""


class Columns(NamedTuple):
    """Compressed columns: feature `i` is active on `row[indptr[i]:indptr[i + 1]]`, ascending."""

    indptr: NDArray[np.int64]
    """(d_sae + 1,)"""
    row: NDArray[np.int32]
    """(nnz,): token, counted from the tokenizer's first, or word."""
    q: NDArray[np.int32]
    """(nnz,): the activation is `q * scale`."""
    n_rows: int
    scale: float


def load(
    atlas: Atlas, sae: str | int, over: Over = "tokens", units: Units = "q"
) -> scipy.sparse.csc_array:
    """The activations of one SAE, a CSC array of shape (n_tokens or n_words, d_sae).

    sae: name or id; an unknown one raises NotFound with those that exist.
    over: 'tokens' of the SAE's tokenizer, row 0 being `tokenizers.first_token`, or 'words'.
    units: 'q' for int32 fixed-point values; 'activation' for float32 in the SAE's units.

    The indices of each column are ascending, and no zero is stored.
    """
    import scipy.sparse

    with closing(atlas.cursor()) as con:
        with told(NotFound):
            ((sae_id,),) = con.execute("select sae_id(?::varchar)", [str(sae)]).fetchall()
        found = read_columns(con, sae_id, over)
    values: NDArray[Any] = found.q
    if units == "activation":
        values = (found.q * found.scale).astype(np.float32)
    return scipy.sparse.csc_array(
        (values, found.row, found.indptr), shape=(found.n_rows, len(found.indptr) - 1)
    )


def read_columns(con: duckdb.DuckDBPyConnection, sae_id: int, over: Over) -> Columns:
    """As `load`, without SciPy: for one SAE that exists, through the connection `con`."""
    found = con.execute(
        """
        select s.first_feature_id, s.d_sae, s.scale, t.first_token, t.n_tokens,
            (select n_words from corpora where corpus_id = 0)
        from saes as s
        join models as m using (model_id)
        join tokenizers as t using (tokenizer_id)
        where s.sae_id = ?
        """,
        [sae_id],
    ).fetchall()
    first_feature, d_sae, scale, first_token, n_tokens, n_words = found[0]
    of_features = f"feature_id between {first_feature} and {first_feature + d_sae - 1}"
    (n_active,) = _read(
        con, f"select n_active from features where {of_features} order by feature_id", d_sae, "i8"
    )
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(n_active)])
    # The table is clustered by feature, then token (a truth of sql/checks), so this is no sort.
    feature, token, q = _read(
        con,
        f"select (feature_id - {first_feature})::integer, (token - {first_token})::integer, q"
        f" from activations where {of_features}",
        int(indptr[-1]), "i4", "i4", "i4",
    )  # fmt: skip
    _check(feature, token, indptr, n_tokens)
    if over == "tokens":
        return Columns(indptr, token, q, n_tokens, scale)
    (word,) = _read(
        con,
        f"select word::integer from tokens where token between {first_token}"
        f" and {first_token + n_tokens - 1} order by token",
        n_tokens, "i4",
    )  # fmt: skip
    return Columns(*_word_maxima(feature, word[token], q, d_sae), n_words, scale)


def _read(
    con: duckdb.DuckDBPyConnection, query: str, n_rows: int, *dtypes: str
) -> list[NDArray[Any]]:
    """The columns of a query as arrays of `n_rows`, filled batch by batch: no second copy."""
    columns: list[NDArray[Any]] = [np.empty(n_rows, dtype) for dtype in dtypes]
    done = 0
    for batch in con.sql(query).to_arrow_reader(_BATCH):
        if done + batch.num_rows > n_rows:
            done += batch.num_rows
            break
        for column, part in zip(columns, batch.columns, strict=True):
            column[done : done + batch.num_rows] = part.to_numpy(zero_copy_only=False)
        done += batch.num_rows
    if done != n_rows:
        raise AtlasError(
            "The atlas's activations do not add up to its features' counts; see what is wrong "
            "with `atlas check`."
        )
    return columns


def _check(
    feature: NDArray[np.int32],
    token: NDArray[np.int32],
    indptr: NDArray[np.int64],
    n_tokens: int,
) -> None:
    """The entries must be in order and counted rightly: all else here rests on it."""
    if not len(feature):
        return
    step = np.diff(feature)
    ascending = (step > 0) | ((step == 0) & (np.diff(token) > 0))
    counted = np.searchsorted(feature, np.arange(len(indptr) - 1), side="right")
    inside = token.min() >= 0 and token.max() < n_tokens
    if not (ascending.all() and inside and np.array_equal(counted, indptr[1:])):
        raise AtlasError(
            "The atlas's activations are not in order of feature and token; see what is wrong "
            "with `atlas check`."
        )


def _word_maxima(
    feature: NDArray[np.int32], word: NDArray[np.int32], q: NDArray[np.int32], d_sae: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """indptr, word and largest q of each run of entries of one feature and one word.

    Words ascend with tokens, so the entries of one pair are neighbours.
    """
    if not len(q):
        return np.zeros(d_sae + 1, np.int64), word, q
    begins = np.empty(len(q), bool)
    begins[0] = True
    np.not_equal(word[1:], word[:-1], out=begins[1:])
    begins[1:] |= feature[1:] != feature[:-1]
    (at,) = begins.nonzero()
    indptr = np.searchsorted(feature[at], np.arange(d_sae + 1), side="left")
    return indptr.astype(np.int64), word[at], np.maximum.reduceat(q, at)
