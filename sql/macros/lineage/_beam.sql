-- Paths from one feature along links of neighbouring layers, the strongest of each step. One row per path.
--
-- As _walk(), without putting paths to the same feature together.
--
-- cut: whether, up to its number of steps, some were left out
create or replace macro _beam(
    id, measure, at_least, depth, strong, down, most
) as table
with recursive
steps as materialized (
    select
        link_id,
        n::double as n
    from _layer_links
    where link_id is not null
),
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
                if(down, pairs.feature_b, pairs.feature_a) as next_id,
                pairs.pearson as edge
            from reached
            join coactivations as pairs
                on if(down, pairs.feature_a, pairs.feature_b) = reached.feature_id
            join steps on steps.link_id = pairs.link_id
            where measure = 'pearson'
            union all
            select
                reached.feature_id,
                reached.steps,
                reached.value,
                reached.weakest,
                reached.path,
                reached.cut,
                next.feature_id as next_id,
                _edge_measure(
                    measure,
                    steps.n,
                    if(down, own.n_active, next.n_active),
                    if(down, next.n_active, own.n_active),
                    if(strong, pairs.n_both_strong, pairs.n_both)::double,
                    own.sum_q2,
                    next.sum_q2,
                    pairs.sum_ab::double
                ) as edge
            from reached
            join _sums_of_features(strong) as own on own.feature_id = reached.feature_id
            join coactivations as pairs
                on if(down, pairs.feature_a, pairs.feature_b) = reached.feature_id
            join steps on steps.link_id = pairs.link_id
            join _sums_of_features(strong) as next
                on next.feature_id = if(down, pairs.feature_b, pairs.feature_a)
            where measure != 'pearson'
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
