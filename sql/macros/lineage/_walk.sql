-- Features reached from one along links of neighbouring layers, downstream or upstream. One row each.
--
-- Layer by layer: what is reached by k steps is known, with its best path, before step k + 1. The
-- feature itself comes with step 0.
--
-- id: of the feature; used once, for it may be a long expression
-- path: ids, from upstream to downstream, without the last one reached
-- down: false for upstream
create or replace macro _walk(id, measure, at_least, depth, strong, down) as table
with recursive
-- Its first part reads no table: in a lateral join, DuckDB 2.0 cannot plan a recursion that does, so the
-- feature's id is given.
walked as (
    select
        id::bigint as feature_id,
        0 as steps,
        1.0::double as value,
        1.0::double as weakest,
        1.0::double as n_paths,
        []::bigint[] as path
    where _edges_asked(measure, at_least, depth)
    union all
    (
        with
        -- Materialized, so that pairs and sums are looked up for what was reached: of the recursive
        -- table itself DuckDB 2.0 makes the probing side, and hashes all pairs that are stored.
        reached as materialized (
            from walked
            where walked.steps < coalesce(depth, 2147483647)
        )
        select
            best.next_id as feature_id,
            best.steps,
            best.path.value as value,
            best.path.weakest as weakest,
            best.n_paths,
            if(
                down,
                list_append(best.path.path, -best.path.before),
                list_prepend(-best.path.before, best.path.path)
            ) as path
        from (
            select
                found.next_id,
                any_value(found.steps) as steps,
                max(found.path) as path,
                sum(found.n_paths) as n_paths
            from (
                select
                    edges.next_id,
                    edges.steps + 1 as steps,
                    edges.n_paths,
                    -- The largest is the strongest; of equally strong ones that through the lower id.
                    {
                        'value': edges.value * edges.edge,
                        'before': -edges.feature_id,
                        'weakest': least(edges.weakest, edges.edge),
                        'path': edges.path
                    } as path
                from (
                    select
                        reached.feature_id,
                        reached.steps,
                        reached.value,
                        reached.weakest,
                        reached.n_paths,
                        reached.path,
                        if(down, pairs.next_id, pairs.feature_id) as next_id,
                        pairs.edge
                    from reached
                    join _layer_edges(measure, strong) as pairs
                        on if(down, pairs.feature_id, pairs.next_id) = reached.feature_id
                ) as edges
                where edges.edge >= at_least
            ) as found
            group by found.next_id
        ) as best
    )
)
select
    walked.feature_id,
    walked.steps,
    walked.value,
    walked.weakest,
    walked.n_paths,
    walked.path
from walked;
