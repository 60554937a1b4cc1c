-- What is kept of every pair of linked features, with the sums over each alone. One row per stored pair.
--
-- Over the units of its link: tokens, or words.
create or replace view _joint_sums as
select
    coactivations.link_id,
    coactivations.feature_a as feature_id_a,
    coactivations.feature_b as feature_id_b,
    saes_a.name || '/' || (coactivations.feature_a - saes_a.first_feature_id) as feature_a,
    saes_b.name || '/' || (coactivations.feature_b - saes_b.first_feature_id) as feature_b,
    saes_a.name as sae_a,
    saes_b.name as sae_b,
    saes_a.layer as layer_a,
    saes_b.layer as layer_b,
    links.over,
    links.sae_a as sae_id_a,
    links.sae_b as sae_id_b,
    links.n,
    _over_units(links.over, a.n_active, a.word_n_active) as n_a,
    _over_units(links.over, b.n_active, b.word_n_active) as n_b,
    coactivations.n_both,
    coactivations.n_both_strong,
    _over_units(links.over, a.sum_q, a.word_sum_q) as sum_a,
    _over_units(links.over, b.sum_q, b.word_sum_q) as sum_b,
    _over_units(links.over, a.sum_q2, a.word_sum_q2) as sum_a2,
    _over_units(links.over, b.sum_q2, b.word_sum_q2) as sum_b2,
    coactivations.sum_ab,
    coactivations.pearson
from coactivations
join links on links.link_id = coactivations.link_id
join saes as saes_a on saes_a.sae_id = links.sae_a
join saes as saes_b on saes_b.sae_id = links.sae_b
join features as a on a.feature_id = coactivations.feature_a
join features as b on b.feature_id = coactivations.feature_b;
