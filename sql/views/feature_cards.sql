-- Features as one would introduce them: label, statistics, top words and tokens. One row per feature.
--
-- Restricted to one number of feature_id, it costs milliseconds in an atlas of any size; by name, it
-- reads the statistics of all features first.
-- feature: name, `model/layer-hook[-variant]/index`
-- label, label_score: see best_labels
-- density: share of the reference corpus' tokens on which the feature is active
-- mean_activation, max_activation: over the tokens on which it is active, in the SAE's units
-- top_words: lower-case word forms by activation mass, most first
-- top_tokens: token texts by activation mass, most first
-- promotes, suppresses: token texts that the decoder direction makes more, and less, likely; of a
-- crosscoder, its part at the model's last hook point; none outside the residual stream
--
--     select feature, label, density, top_words from feature_cards where alive order by max_activation desc limit 5
--
--     from feature_cards where feature = 'stdlib-a/1-resid_post/12'
create or replace view feature_cards as
select
    saes.name || '/' || features.index as feature,
    best_labels.label,
    best_labels.score as label_score,
    features.density,
    features.sum_q * saes.scale / nullif(features.n_active, 0) as mean_activation,
    features.max_q * saes.scale as max_activation,
    coalesce(by_word.top_words, []) as top_words,
    coalesce(by_token.top_tokens, []) as top_tokens,
    coalesce(by_effect.promotes, []) as promotes,
    coalesce(by_effect.suppresses, []) as suppresses,
    features.alive,
    features.n_active,
    models.name as model,
    saes.layer,
    saes.hook,
    saes.name as sae,
    features.index,
    features.feature_id
from features
join saes using (sae_id)
join models using (model_id)
left join best_labels on best_labels.feature_id = features.feature_id
left join (
    select
        feature_id,
        list(form order by sum_q desc, form) as top_words
    from word_stats
    group by feature_id
) as by_word on by_word.feature_id = features.feature_id
left join (
    select
        token_stats.feature_id,
        list(vocabulary.text order by token_stats.sum_q desc, token_stats.token_id) as top_tokens
    from token_stats
    join features on features.feature_id = token_stats.feature_id
    join saes using (sae_id)
    join models using (model_id)
    join vocabulary
        on vocabulary.tokenizer_id = models.tokenizer_id
        and vocabulary.token_id = token_stats.token_id
    group by token_stats.feature_id
) as by_token on by_token.feature_id = features.feature_id
left join (
    select
        token_effects.feature_id,
        list(vocabulary.text order by token_effects.rank)
            filter (token_effects.rank > 0) as promotes,
        list(vocabulary.text order by token_effects.rank desc)
            filter (token_effects.rank < 0) as suppresses
    from token_effects
    join features on features.feature_id = token_effects.feature_id
    join saes using (sae_id)
    join models using (model_id)
    join vocabulary
        on vocabulary.tokenizer_id = models.tokenizer_id
        and vocabulary.token_id = token_effects.token_id
    group by token_effects.feature_id
) as by_effect on by_effect.feature_id = features.feature_id;
