-- Linear centred kernel alignment of two SAEs' paired decoder directions. One row.
--
-- ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) in Frobenius norms, X and Y centred: how alike the two matrices of inner
-- products between features are (Kornblith et al. 2019, arXiv 1905.00414). Large components weigh
-- more than in svcca(); rotations and a common scale of either space do not count. For n not far
-- above the widths, chance alone gives a high value: read calibrated. The columns are compare()'s.
--
-- a, b: names or ids of two SAEs, also columns of them
-- subspace, method, over, min_joint, concepts_only, permutations, subsets, seed: as in compare()
--
--     from cka('stdlib-a/1-resid_post', 'stdlib-gpt2/1-resid_post')
create or replace macro cka(
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
    metric := 'cka',
    subspace := subspace,
    method := method,
    over := "over",
    min_joint := min_joint,
    concepts_only := concepts_only,
    permutations := permutations,
    subsets := subsets,
    seed := seed
);
