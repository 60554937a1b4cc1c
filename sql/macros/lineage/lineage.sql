-- A feature with all that leads to it and all that it leads to, through the layers. One row per feature.
--
-- descendants() and ancestors() in one, with the feature itself; with across, also their counterparts
-- in other models, as far as `atlas compare` kept them. To go on in another model, ask for a
-- counterpart's lineage; see cycle_consistency() for whether both ways lead to the same feature.
--
-- layer: of the feature; steps: edges to it, negative for ancestors, 0 for the feature itself
-- value, weakest, n_paths, path: as in descendants(); of a counterpart, its r is the last factor, and
-- the path is that to the feature whose counterpart it is
-- counterpart_of: null within the model
--
-- feature: name or id, also a column of them
-- measure, at_least, depth, strong: as in descendants()
-- across: whether to add counterparts in other models: of each model the one with the highest r
-- max_q, min_r: false discovery rate up to which, and r from which on, a counterpart counts
--
--     from lineage('stdlib-a/1-resid_post/12')
--
--     select feature, value, counterpart_of
--     from lineage('stdlib-a/1-resid_post/12', at_least := 0.9, across := true) order by value desc
create or replace macro lineage(
    feature,
    measure := 'pearson',
    at_least := 0.5,
    depth := null,
    strong := false,
    across := false,
    max_q := 0.05,
    min_r := 0
) as table
with
own as materialized (
    select
        * replace (-steps as steps)
    from _named_walk(feature, measure, at_least, depth, strong, false)
    where steps > 0
    union all
    from _named_walk(feature, measure, at_least, depth, strong, true)
),
others as (
    select
        counterparts.counterpart as feature,
        counterparts.counterpart_layer as layer,
        own.steps,
        own.value * counterparts.r as value,
        least(own.weakest, counterparts.r) as weakest,
        own.n_paths,
        own.path,
        own.feature as counterpart_of,
        counterparts.counterpart_id as feature_id
    from own
    join counterparts on counterparts.feature_id = own.feature_id
    where across
    and counterparts.model != counterparts.counterpart_model
    and counterparts.q <= max_q
    and counterparts.r >= min_r
    qualify row_number() over (
        partition by own.feature_id, counterparts.counterpart_model
        order by counterparts.r desc, counterparts.counterpart_id
    ) = 1
)
select
    found.feature,
    found.layer,
    found.steps,
    found.value,
    found.weakest,
    found.n_paths,
    found.path,
    found.counterpart_of,
    found.feature_id
from (
    select
        own.feature,
        own.layer,
        own.steps,
        own.value,
        own.weakest,
        own.n_paths,
        own.path,
        null::varchar as counterpart_of,
        own.feature_id
    from own
    union all
    from others
) as found
order by found.steps, found.counterpart_of is not null, found.value desc, found.feature_id;
