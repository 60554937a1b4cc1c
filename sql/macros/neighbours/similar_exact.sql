-- The features most like a given one, as similar() finds them, in SQL alone: every feature is scored.
--
-- The same columns, scores and order as similar(), without FAISS and without its cache, in any
-- DuckDB client. It reads all activations on the words that the feature is active on.
--
-- feature: name or id
-- k: how many
-- by: 'activation' (Pearson's r over words), 'decoder' or 'encoder' (cosine, within the space)
-- within: name of the model or SAE to search in, or a pattern of SAEs' names; null for everything
--
--     from similar_exact('stdlib-a/1-resid_post/12', k := 5)
create or replace macro similar_exact(feature, k := 10, by := 'activation', within := null) as table
with
asked as (
    select
        feature_id(feature) as feature_id,
        case
            when not list_contains(['activation', 'decoder', 'encoder'], "by") then
                error('by is ''activation'', ''decoder'' or ''encoder'', not ''' || "by" || '''.')
            when k < 1 then
                error('k is the number of neighbours, at least 1, not ' || k || '.')
            else "by"::varchar
        end as measure,
        within as within,
        saes_in(within) as sae_ids
),
held as (
    select
        sae_spaces.measure,
        sae_spaces.space,
        list(sae_spaces.sae_id) as sae_ids
    from sae_spaces
    group by sae_spaces.measure, sae_spaces.space
),
own as (
    select
        features.feature_id,
        features.word_sum_q,
        features.word_sum_q2,
        asked.measure,
        case
            when asked.measure = 'activation' then asked.sae_ids
            when list_has_any(asked.sae_ids, held.sae_ids) then
                list_intersect(asked.sae_ids, held.sae_ids)
            else error(_apart(asked.within, asked.measure, held.space))::integer[]
        end as sae_ids
    from asked
    join features on features.feature_id = asked.feature_id
    left join sae_spaces
        on sae_spaces.sae_id = features.sae_id and sae_spaces.measure = asked.measure
    left join held on held.measure = sae_spaces.measure and held.space = sae_spaces.space
    where features.alive
),
own_words as (
    select
        tokens.word,
        max(activations.q) as q
    from own
    join activations on activations.feature_id = own.feature_id
    join tokens on tokens.token = activations.token
    where own.measure = 'activation'
    group by tokens.word
),
met as (
    select
        activations.feature_id,
        own_words.word,
        max(activations.q)::bigint * any_value(own_words.q) as product
    from own_words
    join tokens on tokens.word = own_words.word
    join activations on activations.token = tokens.token
    group by activations.feature_id, own_words.word
),
shared as (
    select
        met.feature_id,
        sum(met.product) as sum_ab
    from met
    group by met.feature_id
),
scored as (
    select
        features.feature_id,
        features.sae_id,
        pearson(
            corpora.n_words, own.word_sum_q, features.word_sum_q, own.word_sum_q2,
            features.word_sum_q2, shared.sum_ab
        ) as score
    from own
    cross join shared
    join features on features.feature_id = shared.feature_id
    join corpora on corpora.corpus_id = 0
    where score > 0
    union all
    select
        features.feature_id,
        features.sae_id,
        _cosine(
            list_inner_product(mine.direction, theirs.direction),
            list_inner_product(mine.direction, mine.direction),
            list_inner_product(theirs.direction, theirs.direction)
        ) as score
    from own
    join features on list_contains(own.sae_ids, features.sae_id)
    join _directions as theirs
        on theirs.feature_id = features.feature_id and theirs.measure = own.measure
    join _directions as mine
        on mine.feature_id = own.feature_id and mine.measure = own.measure
    where features.alive
)
select
    (row_number() over (order by scored.score desc, scored.feature_id))::integer as rank,
    feature_names.feature,
    scored.score,
    scored.feature_id
from own
join scored on scored.feature_id != own.feature_id
join feature_names on feature_names.feature_id = scored.feature_id
where list_contains(own.sae_ids, scored.sae_id)
and scored.score is not null
qualify rank <= k
order by rank;
