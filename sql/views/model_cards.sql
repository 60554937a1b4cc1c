-- Language models with what the atlas holds of them. One row per model.
--
--     from model_cards
create or replace view model_cards as
select
    models.name as model,
    models.model_type,
    models.n_layers,
    models.d_model,
    models.n_parameters,
    models.is_causal,
    tokenizers.name as tokenizer,
    tokenizers.n_vocab,
    tokenizers.n_tokens as corpus_tokens,
    coalesce(held.n_saes, 0) as n_saes,
    coalesce(held.layers, []) as layers,
    coalesce(held.n_features, 0) as n_features,
    coalesce(held.n_alive, 0) as n_alive,
    models.source,
    models.revision,
    models.randomized,
    models.model_id
from models
join tokenizers using (tokenizer_id)
left join (
    select
        saes.model_id,
        count(distinct saes.sae_id) as n_saes,
        list(distinct saes.layer order by saes.layer) as layers,
        count(*) as n_features,
        count(*) filter (features.alive) as n_alive
    from saes
    join features using (sae_id)
    group by saes.model_id
) as held using (model_id);
