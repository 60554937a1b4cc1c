-- The words of the corpus on which each feature of some SAEs is most active. One row per (feature, word).
--
-- Occurrences of words, not forms: of equally strong ones the earlier in the corpus. A dead feature
-- has no row. q: the largest over the word's tokens
--
-- saes: list of SAE ids
-- n: how many words
create or replace macro _strongest_words(saes, n) as table
with
-- Materialized, as else joins that follow mislead the planner into holding all activations in memory.
scope as materialized (
    select features.feature_id
    from features
    where list_contains(saes, features.sae_id)
),
-- An activation and its place in one integer, q * 2^32 - place, whose order is that of the
-- activations, and of two that are equal has the earlier before the later. To group all activations
-- by word takes long, so first come the strongest tokens, several for every word wanted.
strongest as (
    select
        activations.feature_id,
        max(activations.q::bigint * 4294967296 - activations.token, 16 * n) as keys
    from scope
    join activations on activations.feature_id = scope.feature_id
    group by activations.feature_id
),
quick as (
    select
        on_words.feature_id,
        max(on_words.q * 4294967296 - on_words.word, n) as keys,
        len(keys) = n or sum(on_words.n_tokens) < 16 * n as is_complete
    from (
        select
            keys.feature_id,
            tokens.word,
            max((keys.key + tokens.token) >> 32) as q,
            count(*) as n_tokens
        from (
            select
                strongest.feature_id,
                unnest(strongest.keys) as key
            from strongest
        ) as keys
        join tokens on tokens.token = -keys.key & 4294967295
        group by keys.feature_id, tokens.word
    ) as on_words
    group by on_words.feature_id
),
-- Features whose strongest tokens lie in too few words; seldom are there any.
slow as (
    select
        on_words.feature_id,
        max(on_words.q::bigint * 4294967296 - on_words.word, n) as keys
    from (
        select
            activations.feature_id,
            tokens.word,
            max(activations.q) as q
        from quick
        join activations on activations.feature_id = quick.feature_id
        join tokens on tokens.token = activations.token
        where not quick.is_complete
        group by activations.feature_id, tokens.word
    ) as on_words
    group by on_words.feature_id
)
select
    picked.feature_id,
    -picked.key & 4294967295 as word,
    (picked.key + word) >> 32 as q
from (
    select
        quick.feature_id,
        unnest(quick.keys) as key
    from quick
    where quick.is_complete
    union all
    select
        slow.feature_id,
        unnest(slow.keys) as key
    from slow
) as picked;
