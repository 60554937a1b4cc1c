-- Mean of the paired features' correlations. One row.
--
-- Not of decoder directions but of activations: the mean of pairs()' r_held_out, since the r by which
-- partners were chosen is high by luck already ('lan2024', where all documents choose: of r, which the
-- paper, arXiv 2410.06981, tells as mean_actv_corr). Shuffled, it is the mean r of any paired feature
-- with any other, which no real pairing fails to pass: its p says little, and the q of single pairs
-- more. The columns are compare()'s.
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
