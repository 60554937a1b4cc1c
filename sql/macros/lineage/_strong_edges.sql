-- Edges of neighbouring layers that are at least so strong, for all features. One row per edge.
create or replace macro _strong_edges(measure, at_least, strong) as table
select
    pairs.feature_id,
    pairs.next_id,
    pairs.edge
from (
    select
        feature_id,
        next_id,
        _edge_measure(
            measure, n, n_a, n_b, n_both, sum_a, sum_b, sum_a2, sum_b2, sum_ab
        ) as edge
    from _neighbour_pairs(strong)
) as pairs
where pairs.edge >= at_least;
