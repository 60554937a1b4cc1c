-- Features of neighbouring layers that fire together, with one measure of it. One row per stored pair.
--
-- Pearson's r is stored with the pair, so that no feature is looked up for it.
--
-- measure, strong: as in descendants()
create or replace macro _layer_edges(measure, strong) as table
select
    pairs.feature_a as feature_id,
    pairs.feature_b as next_id,
    pairs.pearson as edge
from coactivations as pairs
join _layer_links as chained on chained.link_id = pairs.link_id
where measure = 'pearson'
union all
select
    feature_id,
    next_id,
    _edge_measure(measure, n, n_a, n_b, n_both, sum_a2, sum_b2, sum_ab) as edge
from _neighbour_pairs(strong)
where measure != 'pearson';
