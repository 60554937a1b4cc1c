-- An SAE's name says its model, layer, hook and variant, and its layer is one of the model's.
select
    saes.sae_id,
    saes.name,
    models.name as model,
    saes.layer,
    saes.hook,
    saes.variant
from saes
join models using (model_id)
where saes.name is distinct from
    models.name || '/' || saes.layer || '-' || saes.hook || coalesce('-' || saes.variant, '')
or saes.hook not in (
    'resid_pre', 'resid_post', 'mlp_out', 'attn_out', 'mlp_in', 'mlp_norm', 'resid_mid', 'attn_z',
    'mlp_act'
)
or saes.layer not between 0 and models.n_layers - 1
