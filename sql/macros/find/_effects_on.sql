-- Effects on a token of the features that list it among the most promoted or most suppressed.
create or replace macro _effects_on(token, within) as table
with
asked as (
    select token as text
),
scope as (
    select unnest(saes_in(within)) as sae_id
)
select
    feature_names.feature,
    token_effects.effect,
    token_effects.rank as token_rank,
    vocabulary.text,
    best_labels.label,
    token_effects.feature_id
from asked
join vocabulary on vocabulary.text = asked.text or trim(vocabulary.text) = asked.text
join models on models.tokenizer_id = vocabulary.tokenizer_id
join saes on saes.model_id = models.model_id
join scope on scope.sae_id = saes.sae_id
join features on features.sae_id = saes.sae_id
join token_effects
    on token_effects.feature_id = features.feature_id
    and token_effects.token_id = vocabulary.token_id
join feature_names on feature_names.feature_id = token_effects.feature_id
left join best_labels on best_labels.feature_id = token_effects.feature_id;
