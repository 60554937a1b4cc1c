-- As edges, but a feature counts as active where it exceeds a fifth of its maximum. One row per pair.
--
-- The "relative" activity of Balcells et al., arXiv 2410.08869, which leaves weak firing out. Pairs
-- are those of edges; n_both may be less than the link's min_joint, even 0. Pearson's r and the
-- cosine are of the activations themselves, and so the same as there.
--
--     select feature_b, sufficiency, necessity, n_both from edges_strong order by jaccard desc limit 5
create or replace view edges_strong as
select
    sums.feature_a,
    sums.feature_b,
    sums.pearson,
    jaccard(a.n_strong, b.n_strong, sums.n_both_strong) as jaccard,
    sufficiency(a.n_strong, sums.n_both_strong) as sufficiency,
    necessity(b.n_strong, sums.n_both_strong) as necessity,
    mutual_information(sums.n, a.n_strong, b.n_strong, sums.n_both_strong) as mutual_information,
    activation_cosine(sums.sum_a2, sums.sum_b2, sums.sum_ab) as activation_cosine,
    sums.n,
    a.n_strong as n_a,
    b.n_strong as n_b,
    sums.n_both_strong as n_both,
    sums.sae_a,
    sums.sae_b,
    sums.layer_a,
    sums.layer_b,
    sums.over,
    sums.link_id,
    sums.sae_id_a,
    sums.sae_id_b,
    sums.feature_id_a,
    sums.feature_id_b
from _joint_sums as sums
join strong_activity as a on a.feature_id = sums.feature_id_a and a.over = sums.over
join strong_activity as b on b.feature_id = sums.feature_id_b and b.over = sums.over;
