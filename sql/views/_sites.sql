-- Hook points of SAEs with the space that vectors at each live in. One row per (SAE, role, place).
--
-- space: see sae_spaces; first, last: its part of a direction, counted from 1; spread: see sae_sites
create or replace view _sites as
select
    sae_sites.sae_id,
    sae_sites.role,
    sae_sites.place,
    sae_sites.layer,
    sae_sites.hook,
    models.name || '/' || sae_sites.layer || '-' || sae_sites.hook as site,
    if(
        sae_sites.hook
        in ('resid_pre', 'resid_mid', 'resid_post', 'attn_out', 'mlp_out', 'mlp_norm'),
        models.name || '/residual',
        site
    ) as space,
    sae_sites.width,
    sae_sites.first_column + 1 as first,
    sae_sites.first_column + sae_sites.width as last,
    sae_sites.spread
from sae_sites
join models on models.model_id = sae_sites.model_id;
