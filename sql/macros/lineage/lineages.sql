-- How far every feature goes back and on through the layers, at once. One row per live feature.
--
-- Of all chains of edges that are strong enough the longest through each feature is taken, and of
-- equally long ones that with the largest product.
--
-- persists: layers that the chain has; back, on: of these, before and after the feature's own
-- first, last: features at its ends, which may be the feature itself
-- value, weakest: product of its edges, and the least of them; 1 where there are none
--
-- space: name of a model or an SAE, or a pattern of SAEs' names; null for everything
-- measure, at_least, strong: as in descendants()
--
--     from lineages('stdlib-a', at_least := 0.9) order by persists desc, value desc limit 5
--
--     select layer, avg(persists) from lineages('stdlib-a') group by layer order by layer
create or replace macro lineages(
    space := null, measure := 'pearson', at_least := 0.5, strong := false
) as table
select
    saes.name || '/' || features.index as feature,
    saes.layer,
    -- The error stands in a column: as a filter it would be asked of other models' chains, too.
    if(
        _chains.apart_a is null,
        before.best.steps + 1 + after.best.steps,
        error(_not_linked(_chains.apart_a, _chains.apart_b))::integer
    ) as persists,
    before.best.steps as back,
    after.best.steps as on,
    before.best.value * after.best.value as value,
    least(before.best.weakest, after.best.weakest) as weakest,
    firsts.name || '/' || first_features.index as first,
    lasts.name || '/' || last_features.index as last,
    saes.name as sae,
    features.feature_id,
    before.best.end_id as first_id,
    after.best.end_id as last_id
from features
join saes on saes.sae_id = features.sae_id
join _chains on _chains.sae_id = saes.sae_id
join _longest(measure, at_least, strong, false) as before
    on before.feature_id = features.feature_id
join _longest(measure, at_least, strong, true) as after on after.feature_id = features.feature_id
join features as first_features on first_features.feature_id = before.best.end_id
join saes as firsts on firsts.sae_id = first_features.sae_id
join features as last_features on last_features.feature_id = after.best.end_id
join saes as lasts on lasts.sae_id = last_features.sae_id
where features.alive
and _edges_asked(measure, at_least, null)
and list_contains(saes_in(space), saes.sae_id);
