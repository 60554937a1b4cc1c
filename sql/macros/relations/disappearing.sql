-- Features that do not go on in the next layer. One row per feature.
--
-- No feature of the next layer, of the same model, hook and variant, has Pearson's r of at least
-- 0.95 with them: Balcells et al., arXiv 2410.08869. The other features are in passed_through.
-- Live features are listed; with dead := true all of them, as in the published shares, whose
-- denominators hold the dead; see layer_flow for both shares. Layers that are not linked give no rows.
-- `disappearing` alone is the same with these defaults.
-- successor: the downstream feature with the highest measure, which is value; both null if no pair
-- with the feature is stored
-- n_active: tokens on which the feature is active
-- tested: whether it is active on as many tokens as a stored pair must have in common; of a rarer one
-- it is not known whether it goes on
--
-- at_least: of the measure, from which on a feature passes
-- measure: 'pearson', 'jaccard', 'sufficiency', 'necessity', 'mutual_information' or
-- 'activation_cosine'; see edges
-- strong: true for activity above a fifth of the maximum, as in edges_strong
-- dead: true to list features that are never active as well
--
--     select feature, successor, value from disappearing where tested order by n_active desc limit 5
--
--     select sae, count(*) from disappearing(at_least := 0.5) group by sae
create or replace macro disappearing(
    at_least := 0.95, measure := 'pearson', strong := false, dead := false
) as table
select
    feature,
    other as successor,
    value,
    n_active,
    tested,
    sae,
    other_sae as next_sae,
    layer,
    other_layer as next_layer,
    feature_id,
    other_id as successor_id
from _unmatched(at_least, measure, strong, dead, true);
