-- How strongly a term belongs to a feature. One row per (feature, term).
--
-- A term of a label weighs 3 a time; the word forms that hold a feature's activation mass share 5,
-- and the tokens that hold it share 2, each by its part of the mass.
create or replace view _terms as
with
-- Each text is split once, however many features share it.
form_terms as (
    select
        form,
        unnest(_terms_of(form)) as term
    from (select distinct form from word_stats)
),
token_terms as (
    select
        tokenizer_id,
        token_id,
        unnest(_terms_of(text)) as term
    from vocabulary
    where n_tokens > 0
),
weighted as (
    select
        labels.feature_id,
        unnest(_terms_of(labels.text)) as term,
        3.0::double as weight
    from labels
    union all
    select
        word_stats.feature_id,
        form_terms.term,
        5.0::double * word_stats.sum_q / features.word_sum_q as weight
    from word_stats
    join form_terms on form_terms.form = word_stats.form
    join features on features.feature_id = word_stats.feature_id
    union all
    select
        token_stats.feature_id,
        token_terms.term,
        2.0::double * token_stats.sum_q / features.sum_q as weight
    from token_stats
    join features on features.feature_id = token_stats.feature_id
    join saes on saes.sae_id = features.sae_id
    join models on models.model_id = saes.model_id
    join token_terms
        on token_terms.tokenizer_id = models.tokenizer_id
        and token_terms.token_id = token_stats.token_id
)
select
    feature_id,
    term,
    sum(weight) as weight
from weighted
group by feature_id, term;
