-- How alike two SAEs are in each meaning: compare() within categories of words. One row per category.
--
-- For every category of the table categories, the features with one of its words among their 5
-- strongest are paired and compared (the rule of Lan et al. 2024, arXiv 2410.06981, there for tokens).
-- By that rule some members are there by chance, which the nulls share; category_features with
-- least := 3 lists the sure ones. 'hungarian' pairs the most of them, which small categories need.
-- Categories with fewer than 3 pairs have no row.
--
-- value, calibrated, p and the others: as in compare(). Subspaces are small, so value is high by
-- itself; p asks whether the matching within the category matters, subset_p whether the category is
-- shared more than as many pairs of any meaning
-- q, subset_q: p and subset_p after Benjamini & Hochberg (1995) over the categories listed
--
-- a, b: names or ids of two SAEs
-- metric, method, over, min_joint, concepts_only, permutations, subsets, seed: as in compare()
--
--     select category, n, calibrated, q, subset_q
--     from semantic_subspaces('stdlib-a/1-resid_post', 'stdlib-gpt2/1-resid_post', metric := 'rsa')
create or replace macro semantic_subspaces(
    a,
    b,
    metric := 'svcca',
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
        sae_id(a)::varchar as a,
        sae_id(b)::varchar as b,
        categories.category
    from (select distinct category from categories) as categories
),
compared as (
    select
        asked.category,
        _compare(
            asked.a,
            asked.b,
            metric::varchar,
            asked.category,
            method::varchar,
            "over"::varchar,
            min_joint::integer,
            concepts_only::boolean,
            permutations::integer,
            subsets::integer,
            seed::bigint
        ) as found
    from asked
),
-- Listed before it is filtered, so that the kernel is called once a category.
listed as (
    select list_filter(list(compared), lambda t: t.found.n >= 3) as tests
    from compared
),
corrected as (
    select
        unnest(tests) as test,
        unnest(_benjamini_hochberg(list_transform(tests, lambda t: t.found.p))) as q,
        unnest(_benjamini_hochberg(list_transform(tests, lambda t: t.found.subset_p))) as subset_q
    from listed
)
select
    corrected.test.category as category,
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
    corrected.test.found.dims_b as dims_b
from corrected
order by calibrated desc nulls last, category;
