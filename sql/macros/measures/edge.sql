-- All measures of two features with confidence intervals, from their activations. One row.
--
-- For any two features, linked or not: over the tokens of a common tokenizer, else over words, where
-- each has the largest activation over the word's tokens. See relation() for words in every case.
-- n, n_a, n_b, n_both: units in all, and those on which A, B and both are active
-- pearson, jaccard, sufficiency, necessity, mutual_information, activation_cosine: see each macro
-- decoder_cosine: null unless both directions live in one space
-- n_effective: what Pearson's r rests on; see pearson_interval
-- pearson_low … necessity_high: confidence intervals; see pearson_interval and share_interval
--
-- feature_a, feature_b: name or id
-- above: share of a feature's maximum that it must exceed to count as active, 0.2 in edges_strong;
-- Pearson's r and the activation cosine are of the activations themselves whatever it is
-- confidence: share of such intervals that hold the true value
--
--     from edge('stdlib-a/1-resid_post/12', 'stdlib-a/3-resid_post/2')
--
--     select n_both, sufficiency from edge('stdlib-a/1-resid_post/12', 'stdlib-a/3-resid_post/2', above := 0.2)
create or replace macro edge(feature_a, feature_b, above := 0.0, confidence := 0.95) as table
with
asked as (
    select
        feature_id(feature_a) as id_a,
        feature_id(feature_b) as id_b
),
two as (
    select
        asked.id_a,
        asked.id_b,
        a.max_q as max_a,
        b.max_q as max_b,
        names_a.feature as name_a,
        names_b.feature as name_b,
        if(model_a.tokenizer_id = model_b.tokenizer_id, 'tokens', 'words') as over,
        _over_units(over, tokenizers.n_tokens, corpora.n_words) as n
    from asked
    join features as a on a.feature_id = asked.id_a
    join features as b on b.feature_id = asked.id_b
    join feature_names as names_a on names_a.feature_id = asked.id_a
    join feature_names as names_b on names_b.feature_id = asked.id_b
    join saes as sae_a on sae_a.sae_id = a.sae_id
    join saes as sae_b on sae_b.sae_id = b.sae_id
    join models as model_a on model_a.model_id = sae_a.model_id
    join models as model_b on model_b.model_id = sae_b.model_id
    join tokenizers on tokenizers.tokenizer_id = model_a.tokenizer_id
    join corpora on corpora.corpus_id = 0
),
units_a as (
    select
        _over_units(two.over, tokens.token, tokens.word) as unit,
        max(activations.q)::bigint as q,
        max(activations.q) > above * any_value(two.max_a) as active
    from two
    join activations on activations.feature_id = two.id_a
    join tokens on tokens.token = activations.token
    group by all
),
units_b as (
    select
        _over_units(two.over, tokens.token, tokens.word) as unit,
        max(activations.q)::bigint as q,
        max(activations.q) > above * any_value(two.max_b) as active
    from two
    join activations on activations.feature_id = two.id_b
    join tokens on tokens.token = activations.token
    group by all
),
-- Units on which neither fires have no row, here as in the table.
fired as (
    select
        coalesce(units_a.q, 0) as q_a,
        coalesce(units_b.q, 0) as q_b,
        coalesce(units_a.active, false) as active_a,
        coalesce(units_b.active, false) as active_b
    from units_a
    full join units_b on units_b.unit = units_a.unit
),
sums as (
    select
        count(*) as n_either,
        count(*) filter (active_a) as n_a,
        count(*) filter (active_b) as n_b,
        count(*) filter (active_a and active_b) as n_both,
        coalesce(sum(q_a), 0) as sum_a,
        coalesce(sum(q_b), 0) as sum_b,
        coalesce(sum(q_a * q_a), 0) as sum_a2,
        coalesce(sum(q_b * q_b), 0) as sum_b2,
        coalesce(sum(q_a * q_b), 0) as sum_ab
    from fired
),
measured as (
    select
        two.*,
        sums.*,
        pearson(
            two.n, sums.sum_a, sums.sum_b, sums.sum_a2, sums.sum_b2, sums.sum_ab
        ) as pearson,
        activation_cosine(sums.sum_a2, sums.sum_b2, sums.sum_ab) as activation_cosine,
        sums.sum_a / two.n as mean_a,
        sums.sum_b / two.n as mean_b,
        sqrt(nullif(sums.sum_a2 / two.n - mean_a * mean_a, 0)) as deviation_a,
        sqrt(nullif(sums.sum_b2 / two.n - mean_b * mean_b, 0)) as deviation_b
    from two
    cross join sums
),
-- n times the sampling variance of r, by the delta method; see pearson_interval.
varied as (
    select
        (
            sum(_influence((q_a - mean_a) / deviation_a, (q_b - mean_b) / deviation_b, pearson))
            + any_value(n - n_either)
            * any_value(_influence(-mean_a / deviation_a, -mean_b / deviation_b, pearson))
        ) / any_value(n) as variance
    from fired
    cross join measured
),
limits as (
    select
        measured.*,
        least(
            n_either::double,
            n * (1 - pearson * pearson) * (1 - pearson * pearson) / nullif(varied.variance, 0)
        ) as n_effective,
        pearson_interval(pearson, n_effective, confidence) as of_pearson,
        share_interval(n_both, n_a + n_b - n_both, confidence) as of_jaccard,
        share_interval(n_both, n_a, confidence) as of_sufficiency,
        share_interval(n_both, n_b, confidence) as of_necessity
    from measured
    cross join varied
)
select
    name_a as feature_a,
    name_b as feature_b,
    over,
    n,
    n_a,
    n_b,
    n_both,
    pearson,
    jaccard(n_a, n_b, n_both) as jaccard,
    sufficiency(n_a, n_both) as sufficiency,
    necessity(n_b, n_both) as necessity,
    mutual_information(n, n_a, n_b, n_both) as mutual_information,
    activation_cosine,
    decoder_cosine(id_a, id_b) as decoder_cosine,
    ---------- confidence intervals
    n_effective,
    of_pearson.low as pearson_low,
    of_pearson.high as pearson_high,
    of_jaccard.low as jaccard_low,
    of_jaccard.high as jaccard_high,
    of_sufficiency.low as sufficiency_low,
    of_sufficiency.high as sufficiency_high,
    of_necessity.low as necessity_low,
    of_necessity.high as necessity_high
from limits;
