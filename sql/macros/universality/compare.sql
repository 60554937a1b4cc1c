-- How alike the spaces of two SAEs' paired features are, against chance. One row.
--
-- The features are paired (see pairs), each pair's two decoder directions, scaled to length 1, are
-- one row of X (A's) and of Y (B's), and a metric tells how alike X and Y are though they live in
-- spaces of different models. Most metrics are high for few pairs whatever the data, so read
-- `calibrated` and p before `value`. Comparisons that were kept (`atlas compare`) with these
-- settings are read, not computed.
--
-- metric:
-- 'svcca', 'svcca_k1', 'rsa', 'cka', 'procrustes': of the decoder directions; see the macros of
-- these names, and rsa's for 'rsa(cosine, pearson)' and the like
-- 'svcca_uncapped': svcca with as many components as explain 99 % of the variance, even where so
-- many must agree by themselves: what an uncorrected publication would say
-- 'mean_correlation': of the pairs' activations, on documents that chose none
--
-- value: null if there are fewer than 3 pairs
-- calibrated: (value − null_mean) / (1 − null_mean): 0 is what chance gives, 1 is identity; null where
-- chance gives 1, so that nothing can be told
-- null_mean, null_sd, p: with the pairs shuffled, which keeps both spaces and breaks their matching;
-- p = (1 + shuffles that reach value) / (1 + permutations). It is a weak null: pairs that share any
-- coarse structure pass it
-- subset_mean, subset_sd, subset_p: of as many random features. For 'all', random live features of
-- each SAE, in random pairing; for a category, random pairs of the whole pairing, so a small
-- subset_p says that this meaning is shared more than features at large are
-- n: pairs measured; of more than 6,000 as many at random, where memory would grow by their square
-- dims_a, dims_b: components kept of X and Y, where the metric keeps some; of svcca they are what
-- value rests on, and near n / 2 they are a warning
--
-- a, b: names or ids of two SAEs, also columns of them
-- metric: one of those above
-- subspace: 'all', or a category of the table categories: then only features with one of its words
-- among their 5 strongest are paired
-- method, over, min_joint, concepts_only: of the pairing, as in pairs()
-- permutations, subsets: how many of each null; 0 leaves it out
-- seed: of the nulls
--
--     from compare('stdlib-a/1-resid_post', 'stdlib-gpt2/1-resid_post', metric := 'cka')
--
--     select a.sae, b.sae, s.calibrated, s.p
--     from sae_cards a, sae_cards b, compare(a.sae, b.sae, permutations := 100) s
--     where a.model = 'stdlib-a' and b.model = 'stdlib-gpt2'
create or replace macro compare(
    a,
    b,
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
-- As a list of one: a struct would be taken apart by as many calls of the kernel as it has fields.
select unnest(
    [
        _compare(
            sae_id(a)::varchar,
            sae_id(b)::varchar,
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
    ],
    recursive := true
);
