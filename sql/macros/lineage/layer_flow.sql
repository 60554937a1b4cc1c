-- What passes from layer to layer, appears and disappears: the flows of a Sankey. One row per flow.
--
-- After Balcells et al., arXiv 2410.08869: a feature passes if its strongest edge to the next layer is
-- at least so strong, which several may share, and one appears if no feature of the layer before
-- passes into it. So what leaves a layer and what arrives in the next are not equally many.
--
-- kind: 'passed' and 'disappearing', which together are the live features of the layer; 'received'
-- and 'appearing', which are those of the next layer
-- source, target: the SAEs between which it flows, or 'appearing' and 'disappearing' in their place.
-- A Sankey draws 'passed' as wide as the flow leaves, 'received' as wide as it arrives
-- n, share: live features, and their part of all live ones of that layer
-- n_rare: of these, those that fire too rarely for any pair to be kept (see link_cards.min_joint)
-- n_with_dead, share_with_dead: with features that never fire among those that appear and disappear,
-- as the paper counts; where many are dead, they are most of what seems to change
--
-- model: its name
-- hook, variant: which of its SAEs; an error if it has none such
-- measure, at_least, strong: as in descendants(), with the paper's threshold
--
--     from layer_flow('stdlib-a')
--
--     select layer, share, share_with_dead from layer_flow('stdlib-a') where kind = 'disappearing'
create or replace macro layer_flow(
    model,
    hook := 'resid_post',
    variant := null,
    measure := 'pearson',
    at_least := 0.95,
    strong := false
) as table
with
asked as (
    select
        model as of_model,
        hook as of_hook,
        variant as of_variant
),
-- Errors stand in a column: as filters they would be asked of other models' chains, too.
chain as materialized (
    select _layer_links.* replace (
        case
            when _layer_links.sae_id is null then
                error(
                    _no_layers(
                        asked.of_model, asked.of_hook, asked.of_variant, _layer_kinds.kinds
                    )
                )::bigint
            when _chains.apart is not null then error(_chains.apart)::bigint
            else _layer_links.place
        end as place
    )
    from asked
    join models on models.name = asked.of_model
    join _layer_kinds on _layer_kinds.model_id = models.model_id
    left join _layer_links
        on _layer_links.model_id = models.model_id
        and _layer_links.hook = asked.of_hook
        and _layer_links.variant is not distinct from asked.of_variant
    left join _chains on _chains.sae_id = _layer_links.sae_id
),
kept as materialized (
    from _strong_edges(measure, at_least, strong)
),
counted as (
    select
        chain.place,
        if(features.feature_id in (select feature_id from kept), 'passed', 'disappearing') as kind,
        features.alive,
        features.alive and features.n_active < chain.min_joint as rare
    from chain
    join features on features.sae_id = chain.sae_id
    where chain.next_sae_id is not null
    union all
    select
        chain.place,
        if(features.feature_id in (select next_id from kept), 'received', 'appearing') as kind,
        features.alive,
        features.alive and features.n_active < chain.min_joint as rare
    from chain
    join features on features.sae_id = chain.next_sae_id
),
flows as (
    select
        chain.*,
        kinds.kind,
        kinds.kind in ('passed', 'disappearing') as leaves
    from chain
    cross join (select unnest(['passed', 'disappearing', 'received', 'appearing']) as kind) as kinds
    where chain.next_sae_id is not null
),
totals as (
    select
        flows.place,
        flows.kind,
        count(*) filter (counted.alive and counted.kind = flows.kind) as n,
        count(*) filter (counted.rare and counted.kind = flows.kind) as n_rare,
        count(*) filter (counted.kind = flows.kind) as n_with_dead,
        count(*) filter (counted.alive) as n_live,
        count(*) as n_all
    from flows
    join counted
        on counted.place = flows.place
        and (counted.kind in ('passed', 'disappearing')) = flows.leaves
    group by flows.place, flows.kind
)
select
    flows.layer,
    flows.next_layer,
    flows.kind,
    if(flows.kind = 'appearing', flows.kind, flows.sae) as source,
    if(flows.kind = 'disappearing', flows.kind, flows.next_sae) as target,
    totals.n,
    totals.n / nullif(totals.n_live, 0) as share,
    totals.n_rare,
    totals.n_with_dead,
    totals.n_with_dead / nullif(totals.n_all, 0) as share_with_dead
from flows
join totals on totals.place = flows.place and totals.kind = flows.kind
where _model_asked(model)
and _edges_asked(measure, at_least, null)
order by
    flows.place,
    list_position(['passed', 'disappearing', 'received', 'appearing'], flows.kind);
