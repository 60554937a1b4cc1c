-- Whether features alike in one SAE are alike in the other: representational similarity. One row.
--
-- For every two pairs, the similarity of their decoder directions within A (inner) and within B; value
-- is the correlation (outer) of these two lists over all n (n − 1) / 2 (Kriegeskorte et al. 2008; inner
-- and outer as Lan et al. 2024, arXiv 2410.06981). It compares the geometry without mapping one space
-- onto the other, so it is low where only part of it is shared, and its chance level is 0 for any n.
-- The columns are compare()'s.
--
-- a, b: names or ids of two SAEs, also columns of them
-- inner: 'pearson', 'cosine' or 'euclidean'
-- outer: 'spearman', 'pearson' or 'kendall', which is slow for more than hundreds of pairs
-- subspace, method, over, min_joint, concepts_only, permutations, subsets, seed: as in compare()
--
--     from rsa('stdlib-a/1-resid_post', 'stdlib-gpt2/1-resid_post', inner := 'cosine')
create or replace macro rsa(
    a,
    b,
    inner := 'pearson',
    outer := 'spearman',
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
    metric := 'rsa(' || "inner" || ', ' || "outer" || ')',
    subspace := subspace,
    method := method,
    over := "over",
    min_joint := min_joint,
    concepts_only := concepts_only,
    permutations := permutations,
    subsets := subsets,
    seed := seed
);
