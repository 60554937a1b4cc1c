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
-- min_lift: least lift; keeps out parents that are active so often that they hold anything, at 5
-- those active on a fifth of the tokens or more
-- max_pearson: Pearson's r from which on the two are the same, and pass through: a feature that lost its
-- weak firing only fires more rarely, too
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
    min_lift := 5,
    max_pearson := 0.95,
    confidence := 0.95,
    strong := false
) as table
select
    whole as parent,
    part as child,
    within as necessity,
    within_low as necessity_low,
    share as sufficiency,
    share_high as sufficiency_high,
    lift,
    n_whole as n_parent,
    n_part as n_child,
    n_both,
    whole_sae as sae,
    part_sae as next_sae,
    whole_layer as layer,
    part_layer as next_layer,
    whole_id as parent_id,
    part_id as child_id
from _parts(min_necessity, max_sufficiency, min_lift, max_pearson, confidence, strong, true);
