-- Features by words: ranked search over labels and over the words and tokens they fire on.
--
-- The score is Okapi BM25 (Robertson & Zaragoza 2009, k1 = 1.2, b = 0.75), a term's frequency being
-- its weight in the labels (3 a time), in the feature's top words (5 in all) and in its top tokens
-- (2 in all). Case and accents do not count. A feature need not match every word.
-- matched: the words that it does match
--
-- words: what to look for
-- n: how many features
-- within: name of a model or an SAE to keep to, or a pattern of SAEs' names; null for everything
--
--     from find('error')
--     select feature, label, matched from find('file path', n := 5)
create or replace macro find(words, n := 20, within := null) as table
with
query as (
    select unnest(list_distinct(_terms_of(words))) as term
),
scope as (
    select unnest(saes_in(within)) as sae_id
),
-- Materialized, so that the terms are split and summed once for the three readings below.
terms as materialized (
    select
        _terms.feature_id,
        _terms.term,
        _terms.weight
    from _terms
),
lengths as (
    select
        terms.feature_id,
        sum(terms.weight) as length
    from terms
    group by terms.feature_id
),
corpus as (
    select
        count(*) as n_features,
        avg(lengths.length) as mean_length
    from lengths
),
asked as (
    select
        terms.feature_id,
        terms.term,
        terms.weight,
        count(*) over (partition by terms.term) as n_having
    from terms
    join query on query.term = terms.term
),
scored as (
    select
        asked.feature_id,
        -- Rounded, so that the order of floating-point sums never decides between equal scores.
        round(sum(
            ln(1 + (corpus.n_features - asked.n_having + 0.5) / (asked.n_having + 0.5))
            * asked.weight * 2.2
            / (asked.weight + 1.2 * (0.25 + 0.75 * lengths.length / corpus.mean_length))
        ), 9) as score,
        list(asked.term order by asked.term) as matched
    from asked
    join lengths on lengths.feature_id = asked.feature_id
    cross join corpus
    group by asked.feature_id
)
select
    (row_number() over (order by scored.score desc, scored.feature_id))::integer as rank,
    feature_names.feature,
    scored.score,
    best_labels.label,
    scored.matched,
    scored.feature_id
from scored
join feature_names on feature_names.feature_id = scored.feature_id
join scope on scope.sae_id = feature_names.sae_id
left join best_labels on best_labels.feature_id = scored.feature_id
qualify rank <= n
order by rank;
