-- Stored comparisons of two SAEs, read against chance, ceiling and floor. One row per comparison.
--
-- A run is one `atlas compare`; see universality for the newest answer to each question. Ceilings and
-- floors are no rows here; the table comparisons has them as such.
--
-- value, calibrated, null_*, subset_*, n, dims_a, dims_b: as in compare()
-- q, subset_q: p and subset_p after Benjamini & Hochberg (1995) over the metric's tests in the run,
-- of whole spaces or of categories (over those so far, where the run was interrupted)
-- ceiling: calibrated value of A's SAE against one of the same model, layer and hook from another
-- seed (`--ceiling`): no other model can be expected to agree more than A with itself
-- floor: calibrated value with a model of random weights (`--floor`) in A's place, by its SAE of the
-- same layer and hook: what corpus and architecture alone make alike
-- Both are of the same run, subspace, metric and settings, and means where there are several SAEs;
-- null where the run had none, or chance alone gives 1. Calibrated, since ceiling and floor have
-- other numbers of pairs, and with these other values by chance.
-- position: where calibrated lies between them: 0 at the floor, 1 at the ceiling; null unless the
-- ceiling is above the floor
--
--     select sae_a, sae_b, value, calibrated, q from comparison_cards where run_id = 3
create or replace view comparison_cards as
with
-- What must be equal for rows to be read against each other.
measured as (
    select
        comparisons.*,
        if(
            1 - comparisons.null_mean >= 1e-6,
            (comparisons.value - comparisons.null_mean) / (1 - comparisons.null_mean),
            null
        ) as calibrated,
        {
            'run_id': comparisons.run_id,
            'metric': comparisons.metric,
            'subspace': pairings.subspace,
            'method': pairings.method,
            'over': pairings.over,
            'min_joint': pairings.min_joint,
            'concepts_only': pairings.concepts_only,
            'shifts': pairings.shifts,
            'seed': pairings.seed
        } as asked,
        pairings.n_a,
        pairings.n_b,
        pairings.n_pairs,
        a.sae_id as sae_id_a,
        b.sae_id as sae_id_b,
        a.name as sae_a,
        b.name as sae_b,
        a.model_id as model_id_a,
        b.model_id as model_id_b,
        {'layer': a.layer, 'hook': a.hook} as site_a,
        {'layer': b.layer, 'hook': b.hook} as site_b
    from comparisons
    join pairings on pairings.pairing_id = comparisons.pairing_id
    join saes as a on a.sae_id = pairings.sae_a
    join saes as b on b.sae_id = pairings.sae_b
),
compared as (
    select measured.*
    from measured
    where measured.role = 'pair'
),
ceilings as (
    select
        asked,
        sae_id_a,
        avg(calibrated) as ceiling
    from measured
    where role = 'ceiling'
    group by asked, sae_id_a
),
floors as (
    select
        asked,
        site_a,
        sae_id_b,
        avg(calibrated) as floor
    from measured
    where role = 'floor'
    group by asked, site_a, sae_id_b
)
select
    compared.sae_a,
    compared.sae_b,
    compared.asked.subspace,
    compared.metric,
    compared.value,
    compared.calibrated,
    compared.p,
    compared.q,
    floors.floor,
    ceilings.ceiling,
    if(
        ceilings.ceiling - floors.floor >= 1e-6,
        (compared.calibrated - floors.floor) / (ceilings.ceiling - floors.floor),
        null
    ) as position,
    compared.null_mean,
    compared.null_sd,
    compared.n_permutations,
    compared.subset_mean,
    compared.subset_sd,
    compared.subset_p,
    compared.subset_q,
    compared.n_subsets,
    compared.n,
    compared.dims_a,
    compared.dims_b,
    ---------- places
    model_a.name as model_a,
    model_b.name as model_b,
    compared.site_a.layer as layer_a,
    compared.site_b.layer as layer_b,
    compared.site_a.hook as hook_a,
    compared.site_b.hook as hook_b,
    ---------- settings and provenance
    compared.asked.method,
    compared.asked.over,
    compared.asked.min_joint,
    compared.asked.concepts_only,
    compared.asked.shifts,
    compared.asked.seed,
    compared.n_a,
    compared.n_b,
    compared.n_pairs,
    compared.run_id,
    compared.pairing_id,
    compared.sae_id_a,
    compared.sae_id_b
from compared
join models as model_a on model_a.model_id = compared.model_id_a
join models as model_b on model_b.model_id = compared.model_id_b
left join ceilings
    on ceilings.asked = compared.asked and ceilings.sae_id_a = compared.sae_id_a
left join floors
    on floors.asked = compared.asked
    and floors.site_a = compared.site_a
    and floors.sae_id_b = compared.sae_id_b;
