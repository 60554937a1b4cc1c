-- How far every feature goes back and on through linked layers, at once. One row per live feature.
--
-- Of all chains of edges that are strong enough the longest through each feature is taken, and of
-- equally long ones that with the largest product.
--
-- persists: layers that the chain has; back, on: of these, before and after the feature's own
-- first, last: features at its ends, which may be the feature itself
-- value, weakest: product of its edges, and the least of them; 1 where there are none
--
-- An SAE without a neighbouring layer of its hook and variant has no rows, nor have those of which no two
-- layers are linked, as long as others that are asked for are; where some are, the error says what to link.
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
with
asked as materialized (
    select
        sae_id,
        apart
    from _chains
    where list_contains(saes_in(space), sae_id)
    and len(saes) > 1
    qualify begun or not bool_or(begun) over ()
)
select
    saes.name || '/' || features.index as feature,
    saes.layer,
    -- The error stands in a column: as a filter it would be asked of other models' chains, too.
    if(
        asked.apart is null,
        before.best.steps + 1 + after.best.steps,
        error(asked.apart)::integer
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
join asked on asked.sae_id = saes.sae_id
join _longest(measure, at_least, strong, false) as before
    on before.feature_id = features.feature_id
join _longest(measure, at_least, strong, true) as after on after.feature_id = features.feature_id
join features as first_features on first_features.feature_id = before.best.end_id
join saes as firsts on firsts.sae_id = first_features.sae_id
join features as last_features on last_features.feature_id = after.best.end_id
join saes as lasts on lasts.sae_id = last_features.sae_id
where features.alive
and _edges_asked(measure, at_least, null);
