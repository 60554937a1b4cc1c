-- The longest chain of edges from every feature, downstream or upstream. One row per feature.
--
-- From the last layer (or the first) on, layer by layer, so that every edge is looked at once.
--
-- best: of the longest chains the one with the largest product: steps, value, weakest, end_id
-- down: false for upstream
create or replace macro _longest(measure, at_least, strong, down) as table
with recursive
kept as materialized (
    select
        if(down, feature_id, next_id) as feature_id,
        if(down, next_id, feature_id) as next_id,
        edge
    from _strong_edges(measure, at_least, strong)
),
placed as materialized (
    select
        features.feature_id,
        if(down, len(_chains.saes) - _chains.place, _chains.place - 1) as far
    from features
    join _chains on _chains.sae_id = features.sae_id
),
longest as (
    select
        feature_id,
        far,
        {'steps': 0, 'value': 1.0::double, 'weakest': 1.0::double, 'end_id': feature_id} as best
    from placed
    where far = 0
    union all
    (
        with
        -- Materialized for the reason told in _walk().
        reached as materialized (from longest)
        select
            placed.feature_id,
            placed.far,
            coalesce(
                onward.best,
                {
                    'steps': 0,
                    'value': 1.0::double,
                    'weakest': 1.0::double,
                    'end_id': placed.feature_id
                }
            ) as best
        from placed
        left join (
            select
                kept.feature_id,
                max(
                    {
                        'steps': reached.best.steps + 1,
                        'value': reached.best.value * kept.edge,
                        'weakest': least(reached.best.weakest, kept.edge),
                        'end_id': reached.best.end_id
                    }
                ) as best
            from reached
            join kept on kept.next_id = reached.feature_id
            group by kept.feature_id
        ) as onward on onward.feature_id = placed.feature_id
        where placed.far = (select any_value(reached.far) from reached) + 1
    )
)
from longest;
