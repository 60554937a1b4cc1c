-- How strongly a term belongs to a feature. One row per (feature, term).
--
-- A term of a label weighs 3 a time; the word forms that hold a feature's activation mass share 5,
-- and the tokens that hold it share 2, each by its part of the mass.
create or replace view _terms as
with weighted as (
    select
        labels.feature_id,
        unnest(_terms_of(labels.text)) as term,
        3.0::double as weight
    from labels
    union all
    select
        word_stats.feature_id,
        unnest(_terms_of(word_stats.form)) as term,
        5.0::double * word_stats.sum_q / features.word_sum_q as weight
    from word_stats
    join features using (feature_id)
    where features.word_sum_q > 0
    union all
    select
        token_stats.feature_id,
        unnest(_terms_of(vocabulary.text)) as term,
        2.0::double * token_stats.sum_q / features.sum_q as weight
    from token_stats
    join features using (feature_id)
    join saes using (sae_id)
    join models using (model_id)
    join vocabulary
        on vocabulary.tokenizer_id = models.tokenizer_id
        and vocabulary.token_id = token_stats.token_id
    where features.sum_q > 0
)
select
    feature_id,
    term,
    sum(weight) as weight
from weighted
group by feature_id, term;
