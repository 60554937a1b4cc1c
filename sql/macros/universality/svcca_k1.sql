-- SVCCA as the code of Lan et al. 2024 computes it: of one component each. One row.
--
-- The published code compares a share of the variance with the variance itself, and so keeps a single
-- principal component: value is |r| between the two spaces' first components. One strong direction
-- that both share makes it 1, whatever the rest does; pairs shuffled, its mean is about
-- √(2 / (π (n − 1))). To read the paper's tables (arXiv 2410.06981) by; otherwise use svcca().
-- The columns are compare()'s.
--
-- a, b: names or ids of two SAEs, also columns of them
-- subspace, method, over, min_joint, concepts_only, permutations, subsets, seed: as in compare()
--
--     from svcca_k1('stdlib-a/1-resid_post', 'stdlib-gpt2/1-resid_post')
create or replace macro svcca_k1(
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
    metric := 'svcca_k1',
    subspace := subspace,
    method := method,
    over := "over",
    min_joint := min_joint,
    concepts_only := concepts_only,
    permutations := permutations,
    subsets := subsets,
    seed := seed
);
