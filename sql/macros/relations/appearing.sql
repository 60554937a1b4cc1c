-- Features that no feature of the layer before passes into. One row per feature.
--
-- No feature of the layer before, of the same model, hook and variant, has Pearson's r of at least
-- 0.95 with them: Balcells et al., arXiv 2410.08869. Where from else they come, see specialised,
-- generalised, splits, merges and gates.
-- Live features are listed; with dead := true all of them, as in the published shares, whose
-- denominators hold the dead; see layer_flow for both shares. Layers that are not linked give no rows.
-- `appearing` alone is the same with these defaults.
-- predecessor: the upstream feature with the highest measure, which is value; both null if no pair
-- with the feature is stored
-- n_active: tokens on which the feature is active
-- tested: whether it is active on as many tokens as a stored pair must have in common; of a rarer one
-- it is not known whether it was there before
--
-- at_least: of the measure, from which on a feature passes
-- measure: 'pearson', 'jaccard', 'sufficiency', 'necessity', 'mutual_information' or
-- 'activation_cosine'; see edges
-- strong: true for activity above a fifth of the maximum, as in edges_strong
-- dead: true to list features that are never active as well
--
--     select feature, predecessor, value from appearing where tested order by n_active desc limit 5
--
--     select sae, count(*) from appearing(at_least := 0.5) group by sae
create or replace macro appearing(
    at_least := 0.95, measure := 'pearson', strong := false, dead := false
) as table
select
    feature,
    other as predecessor,
    value,
    n_active,
    tested,
    sae,
    other_sae as previous_sae,
    layer,
    other_layer as previous_layer,
    feature_id,
    other_id as predecessor_id
from _unmatched(at_least, measure, strong, dead, false);
