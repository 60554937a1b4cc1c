-- Comparisons of SAEs: which feature goes with which, and how alike two spaces of features are.

-- one row per (SAE, SAE, settings): one matching of the features of two SAEs
create table pairings (
    pairing_id integer,
    run_id integer,
    sae_a integer,          -- saes.sae_id
    sae_b integer,
    subspace varchar,       -- 'all', or the category whose features alone were paired
    keywords varchar,       -- of a category, the sha256 of its words as they were then
    method varchar,         -- 'mutual', 'best', 'hungarian', 'lan2024', 'sae_match'
    over varchar,           -- units of the correlation: 'words', or 'tokens' of a common tokenizer
    min_joint integer,      -- units on which both features of a pair are active, at least
    concepts_only boolean,  -- whether features that fire on non_concepts were left out
    shifts integer,         -- circular shifts behind p
    seed bigint,
    n_a bigint,             -- features of A that could be paired
    n_b bigint,
    n_pairs bigint
);

-- one row per (pairing, pair)
create table feature_pairs (
    pairing_id integer,
    feature_a bigint,
    feature_b bigint,
    r double,               -- Pearson's r over all units
    r_chosen double,        -- over the documents by which the pair was chosen
    r_held_out double,      -- over the other documents; null if all chose
    n_both bigint,          -- units on which both are active
    p double,               -- chance of such an r_chosen for the best of as many shifted partners
    q double,               -- p after Benjamini and Hochberg, over the pairing
    distance double         -- 'sae_match' alone: mean squared error of the directions
);

-- one row per (run, pairing, metric): how alike the paired features are
create table comparisons (
    run_id integer,
    pairing_id integer,
    role varchar,           -- 'pair'; 'ceiling' and 'floor' for what these are read against
    metric varchar,         -- 'svcca', 'rsa', 'rsa(cosine, pearson)', …
    value double,
    null_mean double,       -- with the pairs shuffled
    null_sd double,
    p double,               -- (1 + shuffles at least as high) / (1 + n_permutations)
    q double,               -- p after Benjamini and Hochberg, over the metric's tests in this run
    n_permutations integer,
    subset_mean double,     -- of as many random features
    subset_sd double,
    subset_p double,
    subset_q double,
    n_subsets integer,
    n bigint,               -- pairs measured
    dims_a integer,         -- dimensions kept of each, where the metric keeps some
    dims_b integer
);
