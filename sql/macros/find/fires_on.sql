-- Features that are active on a word of the corpus, the most particular to it first.
--
-- Exact: counted from the activations on every occurrence of the form, whatever its case. No rows
-- if the corpus has no such word.
-- f1: harmonic mean of precision and recall
-- precision: share of the words the feature is active on that are this word
-- recall: share of this word's occurrences that the feature is active on
-- mean_activation, max_activation: over the occurrences it is active on, in the SAE's units
--
-- word: the form, as it stands between spaces and punctuation
-- n: how many features
-- within: name of a model or an SAE to keep to, or a pattern of SAEs' names; null for everything
--
--     from fires_on('return', n := 5)
create or replace macro fires_on(word, n := 20, within := null) as table
with
asked as (
    select lower(trim(word)) as form
),
scope as (
    select unnest(saes_in(within)) as sae_id
),
occurrences as (
    select words.word
    from asked
    join words on lower(words.form) = asked.form
),
active as (
    select
        activations.feature_id,
        tokens.word,
        max(activations.q) as q
    from occurrences
    join tokens on tokens.word = occurrences.word
    join activations on activations.token = tokens.token
    group by activations.feature_id, tokens.word
),
counted as (
    select
        active.feature_id,
        count(*) as n_active,
        sum(active.q) as sum_q,
        max(active.q) as max_q
    from active
    group by active.feature_id
),
measured as (
    select
        counted.feature_id,
        features.sae_id,
        counted.n_active / features.word_n_active as precision,
        counted.n_active / (select count(*) from occurrences) as recall,
        -- The harmonic mean of the two, cleared of fractions.
        2 * counted.n_active
        / (features.word_n_active + (select count(*) from occurrences)) as f1,
        counted.sum_q / counted.n_active * saes.scale as mean_activation,
        counted.max_q * saes.scale as max_activation
    from counted
    join features using (feature_id)
    join saes using (sae_id)
)
select
    (row_number() over (order by measured.f1 desc, measured.feature_id))::integer as rank,
    feature_names.feature,
    measured.f1,
    measured.precision,
    measured.recall,
    measured.mean_activation,
    measured.max_activation,
    best_labels.label,
    measured.feature_id
from measured
join feature_names on feature_names.feature_id = measured.feature_id
join scope on scope.sae_id = feature_names.sae_id
left join best_labels on best_labels.feature_id = measured.feature_id
qualify rank <= n
order by rank;
