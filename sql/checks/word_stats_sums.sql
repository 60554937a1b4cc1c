-- word_stats counts and sums the feature's activations on each lower-case word form.
with forms as (
    select
        lower(form) as form,
        count(*) as n_words
    from words
    group by lower(form)
),
summed as (
    select
        word_activations.feature_id,
        lower(words.form) as form,
        count(*) as n_active,
        sum(word_activations.q) as sum_q,
        max(word_activations.q) as max_q
    from word_activations
    join words using (word)
    group by word_activations.feature_id, lower(words.form)
)
select
    word_stats.feature_id,
    word_stats.form,
    word_stats.n_active,
    summed.n_active as n_active_found,
    word_stats.n_words,
    forms.n_words as n_words_found
from word_stats
left join forms using (form)
left join summed using (feature_id, form)
where word_stats.n_active is distinct from summed.n_active
or word_stats.n_words is distinct from forms.n_words
or word_stats.sum_q is distinct from summed.sum_q
or word_stats.max_q is distinct from summed.max_q
