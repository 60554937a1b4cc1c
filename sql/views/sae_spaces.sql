-- The vector spaces that directions live in. One row per (SAE, measure): 'encoder' and 'decoder'.
--
-- Directions compare only within one space; equal widths do not make two spaces one. Encoders live
-- where an SAE reads, decoders where it writes: the same for an SAE, two places for a transcoder.
--
-- space: `MODEL/residual` for one hook point whose vectors have the residual stream's coordinates,
-- in whatever layer: the stream (resid_pre, resid_mid, resid_post), what is added to it (attn_out,
-- mlp_out), and mlp_norm, which is the stream times one factor a token (less its mean, under
-- LayerNorm). Any other hook point is a space of its own, `MODEL/3-attn_z`: the heads' (attn_z),
-- the neurons' (mlp_act), and mlp_in, where the norm's gain stretches every coordinate by its own
-- factor, another in each layer. The hook points of a crosscoder lie side by side in one vector,
-- which compares with those of the same hook points in the same order:
-- `MODEL/0-resid_post + MODEL/1-resid_post`; for its parts see site_decoders.
-- width: length of the directions
--
--     from sae_spaces order by space, sae
create or replace view sae_spaces as
select
    saes.name as sae,
    if(_sites.role = 'input', 'encoder', 'decoder') as measure,
    if(
        count(*) = 1,
        any_value(_sites.space),
        string_agg(_sites.site, ' + ' order by _sites.place)
    ) as space,
    sum(_sites.width)::integer as width,
    saes.sae_id
from _sites
join saes on saes.sae_id = _sites.sae_id
group by saes.sae_id, saes.name, _sites.role;
