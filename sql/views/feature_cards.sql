-- Features as one would introduce them: label, statistics, top words and tokens. One row per feature.
--
-- feature: name, `model/layer-hook[-variant]/index`
-- label, label_score: see best_labels
-- density: share of the reference corpus' tokens on which the feature is active
-- mean_activation, max_activation: over the tokens on which it is active, in the SAE's units
-- top_words: lower-case word forms by activation mass, most first
-- top_tokens: token texts by activation mass, most first
-- promotes, suppresses: token texts that the decoder direction makes more, and less, likely
--
--     select feature, label, density, top_words from feature_cards where alive order by max_activation desc limit 5
--     from feature_cards where feature = 'toy-a/0-resid_post/12'
create or replace view feature_cards as
select
    saes.name || '/' || features.index as feature,
    best_labels.label,
    best_labels.score as label_score,
    features.density,
    features.sum_q * saes.scale / nullif(features.n_active, 0) as mean_activation,
    features.max_q * saes.scale as max_activation,
    coalesce(
        (
            select list(word_stats.form order by word_stats.sum_q desc, word_stats.form)
            from word_stats
            where word_stats.feature_id = features.feature_id
        ),
        []
    ) as top_words,
    coalesce(
        (
            select list(vocabulary.text order by token_stats.sum_q desc, token_stats.token_id)
            from token_stats
            join vocabulary using (token_id)
            where token_stats.feature_id = features.feature_id
            and vocabulary.tokenizer_id = models.tokenizer_id
        ),
        []
    ) as top_tokens,
    coalesce(
        (
            select list(vocabulary.text order by token_effects.rank)
            from token_effects
            join vocabulary using (token_id)
            where token_effects.feature_id = features.feature_id
            and vocabulary.tokenizer_id = models.tokenizer_id
            and token_effects.rank > 0
        ),
        []
    ) as promotes,
    coalesce(
        (
            select list(vocabulary.text order by token_effects.rank desc)
            from token_effects
            join vocabulary using (token_id)
            where token_effects.feature_id = features.feature_id
            and vocabulary.tokenizer_id = models.tokenizer_id
            and token_effects.rank < 0
        ),
        []
    ) as suppresses,
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
left join best_labels using (feature_id);
