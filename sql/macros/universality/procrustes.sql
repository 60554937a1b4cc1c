-- How well one rotation maps the decoder directions of an SAE onto those of another. One row.
--
-- With X and Y centred and scaled to norm 1, value is the sum of the singular values of YᵀX: 1 minus
-- half the squared distance that the best orthogonal map leaves (Schönemann 1966; Williams et al.
-- 2021, arXiv 2110.14739). Stricter than svcca(), which forgives any linear map. For n not far above
-- the widths, chance alone gives a high value: read calibrated. The columns are compare()'s.
--
-- a, b: names or ids of two SAEs, also columns of them
-- subspace, method, over, min_joint, concepts_only, permutations, subsets, seed: as in compare()
--
--     from procrustes('stdlib-a/1-resid_post', 'stdlib-gpt2/1-resid_post')
create or replace macro procrustes(
    a,
    b,
    subspace := 'all',
    method := 'mutual',
    over := 'words',
    min_joint := 20,
    concepts_only := false,
    permutations := 1000,
    subsets := 200,
    seed := 0
) as table
from compare(
    a,
    b,
    metric := 'procrustes',
    subspace := subspace,
    method := method,
    over := "over",
    min_joint := min_joint,
    concepts_only := concepts_only,
    permutations := permutations,
    subsets := subsets,
    seed := seed
);
