-- Features of linked SAEs that fire together, with every measure of it. One row per stored pair.
--
-- What `atlas link` kept: pairs with at least link_cards.min_joint joint firings, A upstream of B
-- within a model. Active is what is above zero; see edges_strong for the published alternative,
-- edge() for pairs that are not stored, for decoder directions and for confidence intervals.
-- n, n_a, n_b, n_both: units in all, and those on which A, B and both are active
-- pearson, jaccard, sufficiency, necessity, mutual_information, activation_cosine: see each macro;
-- the measures of Balcells et al., arXiv 2410.08869
-- over: what the units are, 'tokens' of a common tokenizer or 'words'
-- Features that exclude each other fire together too rarely to be kept: ask for these with edge().
-- feature_id_a, feature_id_b: by these one feature's edges are found at once
--
--     select feature_b, pearson, necessity from edges order by pearson desc limit 5
--
--     from edges where feature_id_a = feature_id('stdlib-a/1-resid_post/12') order by pearson desc
create or replace view edges as
select
    feature_a,
    feature_b,
    pearson,
    jaccard(n_a, n_b, n_both) as jaccard,
    sufficiency(n_a, n_both) as sufficiency,
    necessity(n_b, n_both) as necessity,
    mutual_information(n, n_a, n_b, n_both) as mutual_information,
    activation_cosine(sum_a2, sum_b2, sum_ab) as activation_cosine,
    n,
    n_a,
    n_b,
    n_both,
    sae_a,
    sae_b,
    layer_a,
    layer_b,
    over,
    link_id,
    sae_id_a,
    sae_id_b,
    feature_id_a,
    feature_id_b
from _joint_sums;
