-- Features of the next layer that fire on more than an upstream feature does. One row per pair.
--
-- The parent, upstream, is hardly ever active without the child (sufficiency near 1), and the child
-- often without the parent (necessity well below 1), so that the child is the more frequent one.
-- Both shares must hold with confidence: what counts is the limit of Wilson's interval, so that a
-- feature with few firings is not taken for a part by luck. Where all firings are in common, 35 of
-- them are enough for 0.9. Balcells et al., arXiv 2410.08869, describe such pairs and test none; the
-- limits are this package's. `generalised` alone is the same with these defaults.
-- necessity: P(parent | child), how often the parent is active where the child is; see edges
-- sufficiency: P(child | parent)
-- sufficiency_low, necessity_high: limits of their intervals; see share_interval
-- lift: sufficiency over the child's rate: how much more often than at random
-- n_parent, n_child, n_both: tokens on which each and both are active
--
-- min_sufficiency: least lower limit of P(child | parent)
-- max_necessity: greatest upper limit of P(parent | child)
-- min_lift: least lift; keeps out children that are active so often that they hold anything
-- confidence: share of such intervals that hold the true share
-- strong: true for activity above a fifth of the maximum, as in edges_strong
--
--     select parent, child, necessity, sufficiency from generalised order by lift desc limit 5
--
--     select child, count(*) as parents from generalised group by child order by parents desc limit 5
create or replace macro generalised(
    min_sufficiency := 0.9,
    max_necessity := 0.5,
    min_lift := 2,
    confidence := 0.95,
    strong := false
) as table
with
close as materialized (
    select
        feature_id,
        next_id,
        n_a,
        n_b,
        n_both,
        sufficiency(n_a, n_both) as sufficiency,
        necessity(n_b, n_both) as necessity,
        n * n_both / (n_a * n_b) as lift
    from _neighbour_pairs(strong)
    -- The limits lie beyond the shares themselves, which are faster to tell.
    where n_both >= min_sufficiency * n_a
    and n_both <= max_necessity * n_b
    and n * n_both >= min_lift * n_a * n_b
),
limited as (
    select
        close.*,
        share_interval(n_both, n_a, confidence).low as sufficiency_low,
        share_interval(n_both, n_b, confidence).high as necessity_high
    from close
)
select
    own.name || '/' || (limited.feature_id - own.first_feature_id) as parent,
    other.name || '/' || (limited.next_id - other.first_feature_id) as child,
    limited.sufficiency,
    limited.sufficiency_low,
    limited.necessity,
    limited.necessity_high,
    limited.lift,
    limited.n_a::bigint as n_parent,
    limited.n_b::bigint as n_child,
    limited.n_both::bigint as n_both,
    own.name as sae,
    other.name as next_sae,
    own.layer,
    other.layer as next_layer,
    limited.feature_id as parent_id,
    limited.next_id as child_id
from limited
join features as a on a.feature_id = limited.feature_id
join features as b on b.feature_id = limited.next_id
join saes as own on own.sae_id = a.sae_id
join saes as other on other.sae_id = b.sae_id
where limited.sufficiency_low >= min_sufficiency
and limited.necessity_high <= max_necessity;
