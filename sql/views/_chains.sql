-- SAEs with the whole chain of layers that they stand in. One row per SAE.
--
-- place: in the chain, from 1
-- saes, layers, firsts: names, layers and first feature ids of its SAEs, in that order
-- apart: the sentence for two neighbours of it that are not linked; null if all are
-- begun: whether any two of it are linked
create or replace view _chains as
select
    _layer_links.sae_id,
    _layer_links.place,
    chains.saes,
    chains.layers,
    chains.firsts,
    chains.apart,
    chains.begun
from _layer_links
join (
    select
        model_id,
        hook,
        variant,
        list(sae order by place) as saes,
        list(layer order by place) as layers,
        list(first_feature_id order by place) as firsts,
        arg_min(
            sae || ' and ' || next_sae || ' are not linked; run `atlas link ATLAS '
            || split_part(sae, '/', 1) || '`.',
            place
        ) filter (next_sae_id is not null and link_id is null) as apart,
        count(link_id) > 0 as begun
    from _layer_links
    group by model_id, hook, variant
) as chains
    on chains.model_id = _layer_links.model_id
    and chains.hook = _layer_links.hook
    and chains.variant is not distinct from _layer_links.variant;
