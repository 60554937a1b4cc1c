-- Stored comparisons of SAEs, read against chance, ceiling and floor. One row per comparison.
--
-- Of each question (two SAEs, subspace, metric, settings of the pairing) the newest run that
-- answered it. The table comparisons holds all of them, and the ceilings and floors as rows.
--
-- value, calibrated, null_*, subset_*, n, dims_a, dims_b: as in compare()
-- q, subset_q: p and subset_p after Benjamini & Hochberg (1995) over the metric's tests in the run
-- ceiling: calibrated value of A's SAE against one of the same model, layer and hook from another
-- seed (`--ceiling`): no other model can be expected to agree more than A with itself
-- floor: calibrated value with a model of random weights (`--floor`) in A's place, by its SAE of the
-- same layer and hook, or in B's: what corpus and architecture alone make alike
-- Both are of the same run, subspace, metric and settings, and means where there are several SAEs;
-- null where the run had none, or chance alone gives 1. Calibrated, since ceiling and floor have
-- other numbers of pairs, and with these other values by chance.
-- position: where calibrated lies between them: 0 at the floor, 1 at the ceiling; null unless the
-- ceiling is above the floor
--
--     select layer_a, layer_b, n, calibrated, q, floor, ceiling, position
--     from universality where metric = 'svcca' and subspace = 'all'
--
--     select subspace, n, calibrated, q, subset_q from universality where subspace != 'all' order by q
create or replace view universality as
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
newest as (
    select measured.*
    from measured
    where measured.role = 'pair'
    qualify row_number() over (
        partition by
            measured.sae_id_a, measured.sae_id_b, measured.metric, measured.asked.subspace,
            measured.asked.method, measured.asked.over, measured.asked.min_joint,
            measured.asked.concepts_only, measured.asked.shifts, measured.asked.seed
        order by measured.run_id desc, measured.pairing_id desc
    ) = 1
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
        placed.asked,
        placed.sae_id_a,
        placed.sae_id_b,
        avg(placed.calibrated) as floor
    from (
        select
            newest.asked,
            newest.sae_id_a,
            newest.sae_id_b,
            in_place_of_a.calibrated
        from newest
        join measured as in_place_of_a
            on in_place_of_a.asked = newest.asked
            and in_place_of_a.sae_id_b = newest.sae_id_b
            and in_place_of_a.site_a = newest.site_a
        where in_place_of_a.role = 'floor'
        union all
        select
            newest.asked,
            newest.sae_id_a,
            newest.sae_id_b,
            in_place_of_b.calibrated
        from newest
        join measured as in_place_of_b
            on in_place_of_b.asked = newest.asked
            and in_place_of_b.sae_id_a = newest.sae_id_a
            and in_place_of_b.site_b = newest.site_b
        where in_place_of_b.role = 'floor'
    ) as placed
    group by placed.asked, placed.sae_id_a, placed.sae_id_b
)
select
    newest.sae_a,
    newest.sae_b,
    newest.asked.subspace,
    newest.metric,
    newest.value,
    newest.calibrated,
    newest.p,
    newest.q,
    floors.floor,
    ceilings.ceiling,
    if(
        ceilings.ceiling - floors.floor >= 1e-6,
        (newest.calibrated - floors.floor) / (ceilings.ceiling - floors.floor),
        null
    ) as position,
    newest.null_mean,
    newest.null_sd,
    newest.n_permutations,
    newest.subset_mean,
    newest.subset_sd,
    newest.subset_p,
    newest.subset_q,
    newest.n_subsets,
    newest.n,
    newest.dims_a,
    newest.dims_b,
    ---------- places
    model_a.name as model_a,
    model_b.name as model_b,
    newest.site_a.layer as layer_a,
    newest.site_b.layer as layer_b,
    newest.site_a.hook as hook_a,
    newest.site_b.hook as hook_b,
    ---------- settings and provenance
    newest.asked.method,
    newest.asked.over,
    newest.asked.min_joint,
    newest.asked.concepts_only,
    newest.asked.shifts,
    newest.asked.seed,
    newest.n_a,
    newest.n_b,
    newest.n_pairs,
    newest.run_id,
    newest.pairing_id,
    newest.sae_id_a,
    newest.sae_id_b
from newest
join models as model_a on model_a.model_id = newest.model_id_a
join models as model_b on model_b.model_id = newest.model_id_b
left join ceilings
    on ceilings.asked = newest.asked and ceilings.sae_id_a = newest.sae_id_a
left join floors
    on floors.asked = newest.asked
    and floors.sae_id_a = newest.sae_id_a
    and floors.sae_id_b = newest.sae_id_b;
