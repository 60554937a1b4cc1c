-- SAEs with the whole chain of layers that they stand in. One row per SAE.
--
-- place: in the chain, from 1
-- saes, layers, firsts: names, layers and first feature ids of its SAEs, in that order
-- apart_a, apart_b: the first two neighbours of it that are not linked; null if all are
create or replace view _chains as
select
    _layer_links.sae_id,
    _layer_links.place,
    chains.saes,
    chains.layers,
    chains.firsts,
    chains.apart_a,
    chains.apart_b
from _layer_links
join (
    select
        model_id,
        hook,
        variant,
        list(sae order by place) as saes,
        list(layer order by place) as layers,
        list(first_feature_id order by place) as firsts,
        arg_min(sae, place) filter (next_sae_id is not null and link_id is null) as apart_a,
        arg_min(next_sae, place) filter (next_sae_id is not null and link_id is null) as apart_b
    from _layer_links
    group by model_id, hook, variant
) as chains
    on chains.model_id = _layer_links.model_id
    and chains.hook = _layer_links.hook
    and chains.variant is not distinct from _layer_links.variant;
