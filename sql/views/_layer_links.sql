-- SAEs in the order of their layers, with the link to the next one. One row per SAE.
--
-- SAEs of one model, hook and variant form a chain; next_sae_id is null at its end, and link_id where
-- the two are not linked. Both count tokens, being of one model.
-- place: in the chain, from 1
create or replace view _layer_links as
select
    chained.*,
    next.name as next_sae,
    next.layer as next_layer,
    links.link_id,
    links.n,
    links.min_joint
from (
    select
        saes.sae_id,
        saes.name as sae,
        saes.layer,
        saes.d_sae,
        saes.first_feature_id,
        saes.model_id,
        saes.hook,
        saes.variant,
        row_number() over chain as place,
        lead(saes.sae_id) over chain as next_sae_id
    from saes
    window chain as (
        partition by saes.model_id, saes.hook, saes.variant order by saes.layer, saes.sae_id
    )
) as chained
left join saes as next on next.sae_id = chained.next_sae_id
left join links
    on links.sae_a = chained.sae_id
    and links.sae_b = chained.next_sae_id
    and links.over = 'tokens';
