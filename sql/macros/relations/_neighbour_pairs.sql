-- Features of neighbouring layers that fire together, with all sums. One row per stored pair.
--
-- Sums are doubles, as _edge_measure() takes them.
--
-- strong: whether active is what exceeds a fifth of the maximum
create or replace macro _neighbour_pairs(strong) as table
select
    pairs.feature_a as feature_id,
    pairs.feature_b as next_id,
    chained.n::double as n,
    a.n_active as n_a,
    b.n_active as n_b,
    if(strong, pairs.n_both_strong, pairs.n_both)::double as n_both,
    a.sum_q2 as sum_a2,
    b.sum_q2 as sum_b2,
    pairs.sum_ab::double as sum_ab,
    pairs.pearson
from coactivations as pairs
join _layer_links as chained on chained.link_id = pairs.link_id
join _sums_of_features(strong) as a on a.feature_id = pairs.feature_a
join _sums_of_features(strong) as b on b.feature_id = pairs.feature_b;
