-- Features of the next layer that fire on a part of what an upstream one fires on. One row per pair.
--
-- The child, downstream, is hardly ever active without the parent (necessity near 1), and the parent
-- often without the child (sufficiency well below 1), so that the child is the rarer one.
-- Both shares must hold with confidence: what counts is the limit of Wilson's interval, so that a
-- feature with few firings is not taken for a part by luck. Where all firings are in common, 35 of
-- them are enough for 0.9. Balcells et al., arXiv 2410.08869, describe such pairs and test none; the
-- limits are this package's. `specialised` alone is the same with these defaults.
-- necessity: P(parent | child), how often the parent is active where the child is; see edges
-- sufficiency: P(child | parent)
-- necessity_low, sufficiency_high: limits of their intervals; see share_interval
-- lift: necessity over the parent's rate: how much more often than at random
-- n_parent, n_child, n_both: tokens on which each and both are active
--
-- min_necessity: least lower limit of P(parent | child)
-- max_sufficiency: greatest upper limit of P(child | parent)
-- min_lift: least lift; keeps out parents that are active so often that they hold anything
-- confidence: share of such intervals that hold the true share
-- strong: true for activity above a fifth of the maximum, as in edges_strong
--
--     select parent, child, necessity, sufficiency from specialised order by lift desc limit 5
--
--     -- Those that are new: no feature of the layer before was the same already.
--     select parent, child from specialised join appearing on appearing.feature_id = child_id
create or replace macro specialised(
    min_necessity := 0.9,
    max_sufficiency := 0.5,
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
        necessity(n_b, n_both) as necessity,
        sufficiency(n_a, n_both) as sufficiency,
        n * n_both / (n_a * n_b) as lift
    from _neighbour_pairs(strong)
    -- The limits lie beyond the shares themselves, which are faster to tell.
    where n_both >= min_necessity * n_b
    and n_both <= max_sufficiency * n_a
    and n * n_both >= min_lift * n_a * n_b
),
limited as (
    select
        close.*,
        share_interval(n_both, n_b, confidence).low as necessity_low,
        share_interval(n_both, n_a, confidence).high as sufficiency_high
    from close
)
select
    own.name || '/' || (limited.feature_id - own.first_feature_id) as parent,
    other.name || '/' || (limited.next_id - other.first_feature_id) as child,
    limited.necessity,
    limited.necessity_low,
    limited.sufficiency,
    limited.sufficiency_high,
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
where limited.necessity_low >= min_necessity
and limited.sufficiency_high <= max_sufficiency;
