-- Stored pairings with their settings and how much they paired. One row per pairing.
--
-- What `atlas compare` kept. n_a, n_b: features that could be paired, being active often enough.
-- n_significant: pairs with q <= 0.05; null if the pairing has no q
-- paired_a, significant_a: pairs, and those with q <= 0.05, as a share of n_a
-- mean_r, mean_r_held_out: over all pairs; their difference is what choosing the best adds by luck
-- method, over, min_joint, concepts_only, shifts, seed: as in pairs(); subspace: as in compare()
--
--     select sae_a, sae_b, method, n_pairs, significant_a, mean_r_held_out from pairing_cards
create or replace view pairing_cards as
select
    a.name as sae_a,
    b.name as sae_b,
    pairings.subspace,
    pairings.method,
    pairings.over,
    pairings.n_pairs,
    counted.n_significant,
    pairings.n_pairs / nullif(pairings.n_a, 0) as paired_a,
    counted.n_significant / nullif(pairings.n_a, 0) as significant_a,
    counted.mean_r,
    counted.mean_r_held_out,
    pairings.n_a,
    pairings.n_b,
    ---------- settings and provenance
    pairings.min_joint,
    pairings.concepts_only,
    pairings.shifts,
    pairings.seed,
    runs.ended_at as paired_at,
    pairings.run_id,
    pairings.pairing_id,
    pairings.sae_a as sae_id_a,
    pairings.sae_b as sae_id_b
from pairings
join saes as a on a.sae_id = pairings.sae_a
join saes as b on b.sae_id = pairings.sae_b
left join runs on runs.run_id = pairings.run_id
left join (
    select
        feature_pairs.pairing_id,
        if(count(feature_pairs.q) > 0, count(*) filter (feature_pairs.q <= 0.05), null)
            as n_significant,
        avg(feature_pairs.r) as mean_r,
        avg(feature_pairs.r_held_out) as mean_r_held_out
    from feature_pairs
    group by feature_pairs.pairing_id
) as counted on counted.pairing_id = pairings.pairing_id;
