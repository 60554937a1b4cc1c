-- Which feature of one SAE goes with which of another, from their activations. One row per pair.
--
-- The SAEs may be of the same model or of two. Features are paired by Pearson's r of their
-- activations over the words of the reference corpus, so tokenizers need not agree. A pair is chosen
-- on the even documents and told again on the odd ones, which had no say: a best of thousands is
-- high by luck, and r_held_out is what remains of it.
-- Pairs of a run that was kept (`atlas compare`) with these settings are read, not computed.
--
-- r: over all words, as similar() and relation() say
-- r_chosen, r_held_out: over the documents that chose the pair, and over the others; r_held_out is
-- null for 'lan2024', where all documents choose
-- n_both: words on which both features are active
-- p: chance that the best partner of a feature that fires as often would reach r_chosen, if the two
-- SAEs fired independently of each other: B's activations are shifted along the corpus, around its
-- end, which keeps both sides' rates and bursts, and choosing is done again under every shift.
-- Null for 'lan2024' and 'sae_match', and with shifts := 0
-- q: p after Benjamini & Hochberg (1995) over all features of A that a partner was sought for: of the
-- pairs with q <= 0.05, 5 % at most are expected to be luck. It says that two features do fire
-- together, not how alike they are: for that read r_held_out
-- distance: for 'sae_match' alone, mean squared error of the two features' directions
--
-- method:
-- 'mutual': each is the other's best; who is nobody's best partner is left out
-- 'best': for each feature of A the best of B, which several may share
-- 'hungarian': one-to-one with the largest sum of r, however weak the last ones are
-- 'lan2024': as Lan et al. 2024 (arXiv 2410.06981) published it: for each feature of B the best of A,
-- of these the first of each A, without non-concepts, r > .1; over := 'tokens' alone; a baseline to
-- reproduce, not to trust
-- 'sae_match': by weights alone (Balagansky et al., arXiv 2410.07656), for SAEs of one space, such as
-- neighbouring layers: one-to-one with the least total distance of the folded directions
--
-- a, b: names or ids of two SAEs, also columns of them
-- method: one of those above
-- over: 'words', or 'tokens' where both models have the same tokenizer
-- min_joint: words on which both must be active, of those that choose; rare features agree by luck
-- concepts_only: leaves out features whose top words are punctuation or white space (table
-- non_concepts)
-- shifts: circular shifts behind p; more of them, smaller p are told apart
-- seed: of the shifts
--
--     from pairs('stdlib-a/1-resid_post', 'stdlib-gpt2/1-resid_post') order by r_held_out desc limit 5
--
--     select count(*) filter (q <= 0.05) / count(*) as shared
--     from pairs('stdlib-a/1-resid_post', 'stdlib-gpt2/1-resid_post', method := 'best')
create or replace macro pairs(
    a,
    b,
    method := 'mutual',
    over := 'words',
    min_joint := 20,
    concepts_only := false,
    shifts := 20,
    seed := 0
) as table
select unnest(
    _pairs(
        sae_id(a)::varchar,
        sae_id(b)::varchar,
        method::varchar,
        "over"::varchar,
        min_joint::integer,
        concepts_only::boolean,
        shifts::integer,
        seed::bigint
    ),
    recursive := true
);
