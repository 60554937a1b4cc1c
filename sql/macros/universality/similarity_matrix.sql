-- Every SAE of one model compared with every SAE of another: a heatmap's cells. One row per two SAEs.
--
-- value, calibrated, p and the others: as in compare(); order and fill the cells by calibrated
-- q, subset_q: p and subset_p after Benjamini & Hochberg (1995) over the matrix, which holds as many
-- tests as cells
-- An SAE is not compared with itself. Each cell takes a pairing, so a matrix of large SAEs is better
-- kept once by `atlas compare` and read here or from the view universality.
--
-- model_a, model_b: names of models or SAEs, or patterns of SAEs' names; the same one twice, too
-- metric, method, over, min_joint, concepts_only, permutations, subsets, seed: as in compare()
-- subspace: 'all' or a category, as in compare()
--
--     from similarity_matrix('stdlib-a', 'stdlib-gpt2', permutations := 100)
--
--     select layer_a, layer_b, calibrated
--     from similarity_matrix('stdlib-a', 'stdlib-b', metric := 'rsa', permutations := 100) where q <= 0.05
create or replace macro similarity_matrix(
    model_a,
    model_b,
    metric := 'svcca',
    subspace := 'all',
    method := 'mutual',
    over := 'words',
    min_joint := 20,
    concepts_only := false,
    permutations := 1000,
    subsets := 200,
    seed := 0
) as table
with
asked as (
    select
        a.sae_id as sae_id_a,
        b.sae_id as sae_id_b,
        a.name as sae_a,
        b.name as sae_b,
        a.layer as layer_a,
        b.layer as layer_b
    from (select unnest(saes_in(model_a)) as sae_id) as side_a
    join saes as a on a.sae_id = side_a.sae_id
    cross join (select unnest(saes_in(model_b)) as sae_id) as side_b
    join saes as b on b.sae_id = side_b.sae_id
    where a.sae_id != b.sae_id
),
compared as (
    select
        list(
            {
                'cell': asked,
                'found': _compare(
                    asked.sae_id_a::varchar,
                    asked.sae_id_b::varchar,
                    metric::varchar,
                    subspace::varchar,
                    method::varchar,
                    "over"::varchar,
                    min_joint::integer,
                    concepts_only::boolean,
                    permutations::integer,
                    subsets::integer,
                    seed::bigint
                )
            }
        ) as tests
    from asked
),
corrected as (
    select
        unnest(tests) as test,
        unnest(_benjamini_hochberg(list_transform(tests, lambda t: t.found.p))) as q,
        unnest(_benjamini_hochberg(list_transform(tests, lambda t: t.found.subset_p))) as subset_q
    from compared
)
select
    corrected.test.cell.sae_a as sae_a,
    corrected.test.cell.sae_b as sae_b,
    corrected.test.cell.layer_a as layer_a,
    corrected.test.cell.layer_b as layer_b,
    corrected.test.found.value as value,
    corrected.test.found.calibrated as calibrated,
    corrected.test.found.null_mean as null_mean,
    corrected.test.found.null_sd as null_sd,
    corrected.test.found.p as p,
    corrected.q,
    corrected.test.found.subset_mean as subset_mean,
    corrected.test.found.subset_sd as subset_sd,
    corrected.test.found.subset_p as subset_p,
    corrected.subset_q,
    corrected.test.found.n as n,
    corrected.test.found.dims_a as dims_a,
    corrected.test.found.dims_b as dims_b,
    corrected.test.cell.sae_id_a as sae_id_a,
    corrected.test.cell.sae_id_b as sae_id_b
from corrected
order by sae_id_a, sae_id_b;
