-- Canonical correlation of two SAEs' decoder directions, after PCA, over paired features. One row.
--
-- X and Y, the pairs' decoder directions, are centred and cut to their first principal components;
-- value is the mean canonical correlation between the two: the mean cosine of the principal angles
-- between the subspaces that the components' scores span (Raghu et al. 2017, arXiv 1706.05806).
-- It does not see rotations or scalings of either space.
--
-- As many components are kept as explain 99 % of the variance, but (n − 1) // 2 at most: two subspaces
-- of n − 1 dimensions that together have more than n − 1 intersect whatever the data are. The columns
-- are compare()'s; dims_a and dims_b tell what was kept, and where they are not far below n, value is
-- high for any data and only calibrated and p speak.
--
-- a, b: names or ids of two SAEs, also columns of them
-- subspace, method, over, min_joint, concepts_only, permutations, subsets, seed: as in compare()
--
--     from svcca('stdlib-a/1-resid_post', 'stdlib-gpt2/1-resid_post')
create or replace macro svcca(
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
    metric := 'svcca',
    subspace := subspace,
    method := method,
    over := "over",
    min_joint := min_joint,
    concepts_only := concepts_only,
    permutations := permutations,
    subsets := subsets,
    seed := seed
);
