-- Mean of the paired features' correlations. One row.
--
-- Not of decoder directions but of activations: the mean of pairs()' r, which Lan et al. 2024 (arXiv
-- 2410.06981) tell as mean_actv_corr. Under shuffled pairs it is the mean r of any feature of the one
-- with any of the other; choosing partners makes it high by itself, so its p says little, and the q
-- of the single pairs says more. The columns are compare()'s.
--
-- a, b: names or ids of two SAEs, also columns of them
-- subspace, method, over, min_joint, concepts_only, permutations, subsets, seed: as in compare()
--
--     from mean_correlation('stdlib-a/1-resid_post', 'stdlib-gpt2/1-resid_post')
create or replace macro mean_correlation(
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
    metric := 'mean_correlation',
    subspace := subspace,
    method := method,
    over := "over",
    min_joint := min_joint,
    concepts_only := concepts_only,
    permutations := permutations,
    subsets := subsets,
    seed := seed
);
