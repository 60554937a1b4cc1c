-- Features that go on in the next layer, each with its best successor. One row per feature.
--
-- A feature passes through if some feature of the next layer, of the same model, hook and variant,
-- has Pearson's r of at least 0.95 with it: Balcells et al., arXiv 2410.08869. It is not one-to-one:
-- several features may have one successor. Who does not pass is in disappearing; downstream features
-- that none passes into are in appearing. Of equal successors the first stands. `passed_through`
-- alone is the same with these defaults.
-- value: the measure of the two
-- mutual: whether the feature is its successor's best predecessor as well
-- n_a, n_b, n_both: tokens on which the feature, its successor and both are active
--
-- at_least: of the measure, from which on a feature passes
-- measure: 'pearson', 'jaccard', 'sufficiency', 'necessity', 'mutual_information' or
-- 'activation_cosine'; see edges
-- strong: true for activity above a fifth of the maximum, as in edges_strong
--
--     select feature, successor, value from passed_through(at_least := 0.7) order by value desc limit 5
--
--     select sae, count(*) as passed, count(*) filter (mutual) as mutual from passed_through group by sae
create or replace macro passed_through(
    at_least := 0.95, measure := 'pearson', strong := false
) as table
with
passing as materialized (
    from _strong_edges(_known_measure(measure), at_least, strong)
),
-- Of equals the first.
best as (
    select
        feature_id,
        max({'value': edge, 'before': -next_id}) as via
    from passing
    group by feature_id
),
backward as (
    select
        next_id,
        max({'value': edge, 'before': -feature_id}) as via
    from passing
    group by next_id
)
select
    own.name || '/' || (best.feature_id - own.first_feature_id) as feature,
    other.name || '/' || (backward.next_id - other.first_feature_id) as successor,
    best.via.value as value,
    backward.via.before = -best.feature_id as mutual,
    pairs.n_a::bigint as n_a,
    pairs.n_b::bigint as n_b,
    pairs.n_both::bigint as n_both,
    own.name as sae,
    other.name as next_sae,
    own.layer,
    other.layer as next_layer,
    best.feature_id,
    backward.next_id as successor_id
from best
join backward on backward.next_id = -best.via.before
join _neighbour_pairs(strong) as pairs
    on pairs.feature_id = best.feature_id and pairs.next_id = backward.next_id
join features as a on a.feature_id = best.feature_id
join features as b on b.feature_id = backward.next_id
join saes as own on own.sae_id = a.sae_id
join saes as other on other.sae_id = b.sae_id;
