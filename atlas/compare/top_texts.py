"""What each feature fires on the most: the texts of its strongest words or tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from atlas.errors import BadInput
from atlas.store import told

if TYPE_CHECKING:
    import duckdb

Over = Literal["words", "tokens"]

_SPARE = 16
"""Tokens looked at for each text wanted, as several may lie in one word."""

# An activation and its place in one integer, q * 2^32 - place, whose order is that of the
# activations, and of two that are equal has the earlier before the later.
_STRONGEST_TOKENS = """
    strongest as (
        select
            feature_id,
            max(q::bigint * 4294967296 - token, {kept}) as keys
        from activations
        where feature_id between {first} and {last}
        group by feature_id
    )"""

_TOKENS = """
with {strongest}
select
    strongest.feature_id - {first},
    list(distinct vocabulary.text)
from (select feature_id, -unnest(keys) & 4294967295 as token from strongest) as strongest
join tokens on tokens.token = strongest.token
join vocabulary
    on vocabulary.tokenizer_id = {tokenizer_id}
    and vocabulary.token_id = tokens.token_id
group by strongest.feature_id
"""

# To group all activations by word takes ten times as long as to find the strongest of them, so only
# those features are grouped whose strongest tokens lie in too few words.
_WORDS = """
with {strongest},
quick as (
    select
        feature_id,
        max_by(word, key, {n}) as words,
        sum(n_tokens) as n_tokens
    from (
        select
            strongest.feature_id,
            tokens.word,
            max(strongest.key) as key,
            count(*) as n_tokens
        from (select feature_id, unnest(keys) as key from strongest) as strongest
        join tokens on tokens.token = -strongest.key & 4294967295
        group by strongest.feature_id, tokens.word
    )
    group by feature_id
),
settled as (
    select
        feature_id,
        len(words) = {n} or n_tokens < {kept} as is_settled,
        words
    from quick
),
slow as (
    select
        feature_id,
        max(q::bigint * 4294967296 - word, {n}) as keys
    from (
        select
            activations.feature_id,
            tokens.word,
            max(activations.q) as q
        from activations
        join settled on settled.feature_id = activations.feature_id and not settled.is_settled
        join tokens on tokens.token = activations.token
        where activations.feature_id between {first} and {last}
        group by activations.feature_id, tokens.word
    )
    group by feature_id
),
picked as (
    select feature_id, unnest(words) as word from settled where is_settled
    union all
    select feature_id, -unnest(keys) & 4294967295 from slow
)
select
    picked.feature_id - {first},
    list(distinct lower(words.form))
from picked
join words on words.word = picked.word
group by picked.feature_id
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
        "select first_feature_id, d_sae, tokenizer_id from saes join models using (model_id)"
        " where sae_id = ?",
        [sae_id],
    ).fetchall()
    if not found:
        raise ValueError(f"no SAE has the id {sae_id}")
    first, d_sae, tokenizer_id = found[0]
    kept = n * _SPARE if over == "words" else n
    places = {"first": first, "last": first + d_sae - 1, "kept": kept}
    query = (_WORDS if over == "words" else _TOKENS).format(
        strongest=_STRONGEST_TOKENS.format(**places), n=n, tokenizer_id=tokenizer_id, **places
    )
    texts = [frozenset[str]()] * d_sae
    with told():
        for index, of_feature in con.execute(query).fetchall():
            texts[index] = frozenset(of_feature)
    return texts


def non_concept_texts(con: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """The texts that name no concept: the table `non_concepts`."""
    with told():
        return frozenset(text for (text,) in con.execute("from non_concepts").fetchall())
