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
-- min_lift: least lift; keeps out children that are active so often that they hold anything, at 5
-- those active on a fifth of the tokens or more
-- max_pearson: Pearson's r from which on the two are the same, and pass through: a feature that lost its
-- weak firing only fires more rarely, too
-- confidence: share of such intervals that hold the true share
-- strong: true for activity above a fifth of the maximum, as in edges_strong
--
--     select parent, child, necessity, sufficiency from generalised order by lift desc limit 5
--
--     select child, count(*) as parents from generalised group by child order by parents desc limit 5
create or replace macro generalised(
    min_sufficiency := 0.9,
    max_necessity := 0.5,
    min_lift := 5,
    max_pearson := 0.95,
    confidence := 0.95,
    strong := false
) as table
select
    part as parent,
    whole as child,
    within as sufficiency,
    within_low as sufficiency_low,
    share as necessity,
    share_high as necessity_high,
    lift,
    n_part as n_parent,
    n_whole as n_child,
    n_both,
    part_sae as sae,
    whole_sae as next_sae,
    part_layer as layer,
    whole_layer as next_layer,
    part_id as parent_id,
    whole_id as child_id
from _parts(min_sufficiency, max_necessity, min_lift, max_pearson, confidence, strong, false);
