-- Paths from one feature along links of neighbouring layers, the strongest of each step. One row per path.
--
-- As _walk(), without putting paths to the same feature together.
--
-- cut: whether, up to its number of steps, some were left out
create or replace macro _beam(
    id, measure, at_least, depth, strong, down, most
) as table
with recursive
walked as (
    select
        id::bigint as feature_id,
        0 as steps,
        1.0::double as value,
        1.0::double as weakest,
        false as cut,
        []::bigint[] as path
    where _edges_asked(measure, at_least, depth)
    union all
    (
        with
        reached as materialized (
            from walked
            where walked.steps < coalesce(depth, 2147483647)
        )
        select
            edges.next_id as feature_id,
            edges.steps + 1 as steps,
            edges.value * edges.edge as value,
            least(edges.weakest, edges.edge) as weakest,
            edges.cut or count(*) over () > most as cut,
            if(
                down,
                list_append(edges.path, edges.feature_id),
                list_prepend(edges.feature_id, edges.path)
            ) as path
        from (
            select
                reached.feature_id,
                reached.steps,
                reached.value,
                reached.weakest,
                reached.path,
                reached.cut,
                if(down, pairs.next_id, pairs.feature_id) as next_id,
                pairs.edge
            from reached
            join _layer_edges(measure, strong) as pairs
                on if(down, pairs.feature_id, pairs.next_id) = reached.feature_id
        ) as edges
        where edges.edge >= at_least
        qualify row_number() over (order by edges.value * edges.edge desc, edges.path, edges.next_id)
            <= most
    )
)
select
    walked.feature_id,
    walked.steps,
    walked.value,
    walked.weakest,
    walked.cut,
    walked.path
from walked;
