"""What each feature fires on the most: the texts of its strongest words or tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from atlas.errors import AtlasError, BadInput
from atlas.store import told

if TYPE_CHECKING:
    import duckdb

Over = Literal["words", "tokens"]

_WORDS = """
select strongest.feature_id - $first, list(distinct lower(words.form))
from _strongest_words([$sae], $n) as strongest
join words on words.word = strongest.word
group by strongest.feature_id
"""

# As in _strongest_words: an activation and its place in one integer, the earlier before the later.
_TOKENS = """
select strongest.feature_id - $first, list(distinct vocabulary.text)
from (
    select feature_id, -unnest(max(q::bigint * 4294967296 - token, $n)) & 4294967295 as token
    from activations
    where feature_id between $first and $last
    group by feature_id
) as strongest
join tokens on tokens.token = strongest.token
join saes on saes.sae_id = $sae
join models on models.model_id = saes.model_id
join vocabulary
    on vocabulary.tokenizer_id = models.tokenizer_id
    and vocabulary.token_id = tokens.token_id
group by strongest.feature_id
"""


def top_texts(
    con: duckdb.DuckDBPyConnection, sae_id: int, over: Over = "words", n: int = 5
) -> list[frozenset[str]]:
    """The texts of each feature's `n` strongest activations, (d_sae,) sets of at most `n`.

    over: 'words', whose activation is the largest over their tokens, as lower-case forms; or
    'tokens', as the vocabulary has them. Of equally strong ones the earlier in the corpus counts.

    Occurrences are counted, not texts: a feature that fires the most on "the" five times has this
    one text. A dead feature has none. An `sae_id` that the atlas does not hold is a ValueError.
    """
    if n < 1:
        raise BadInput(f"The number of top texts is at least 1, not {n}.")
    found = con.execute(
        "select first_feature_id, d_sae from saes where sae_id = ?", [sae_id]
    ).fetchall()
    if not found:
        raise ValueError(f"no SAE has the id {sae_id}")
    first, d_sae = found[0]
    asked = {"sae": sae_id, "first": first, "n": n}
    if over == "words":
        rows = rows_of(con, _WORDS, asked)
    else:
        rows = rows_of(con, _TOKENS, {**asked, "last": first + d_sae - 1})
    texts = [frozenset[str]()] * d_sae
    for index, of_feature in rows:
        texts[index] = frozenset(of_feature)
    return texts


def non_concept_texts(con: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """The texts that name no concept: the table `non_concepts`."""
    return frozenset(text for (text,) in rows_of(con, "from non_concepts"))


def rows_of(
    con: duckdb.DuckDBPyConnection, query: str, parameters: dict[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    """The rows of a query on what older versions did not write; AtlasError says how to add it."""
    import duckdb

    try:
        with told():
            return con.execute(query, parameters).fetchall()
    except AtlasError as error:
        if isinstance(error.__cause__, duckdb.CatalogException):
            raise AtlasError(
                "This atlas was written by a version that knew no categories; bring it up to date "
                "by opening it once with atlas.open(path, write=True)."
            ) from error
        raise
