-- Lineage: how features of one layer continue in others, by joint activity, community and ablation.

-- one row per (SAE, SAE) whose features' joint activity is stored
create table links (
    link_id integer,
    run_id integer,
    sae_a integer,          -- saes.sae_id; the upstream one where both are of one model
    sae_b integer,
    over varchar,           -- 'tokens' of their common tokenizer, else 'words'
    min_joint integer,      -- pairs are stored from as many joint firings on
    n bigint,               -- units counted: tokens or words of the reference corpus
    n_pairs bigint          -- pairs stored
);

-- one row per (link, feature, feature) with at least min_joint joint firings; clustered by link, then
-- feature_a, then feature_b
create table coactivations (
    link_id integer,
    feature_a bigint,
    feature_b bigint,
    n_both bigint,          -- units on which both are active
    n_both_strong bigint,   -- units on which both exceed a fifth of their maximum
    sum_ab bigint           -- Σ q_a·q_b
);

-- one row per (feature, over) of the SAEs of links; what else is summed over one feature is in features
create table strong_activity (
    feature_id bigint,
    over varchar,
    n_strong bigint         -- units on which it exceeds a fifth of its maximum
);

-- one row per (clustering, parameters)
create table clusterings (
    clustering_id integer,
    run_id integer,
    model_id integer,       -- with hook and variant: the SAEs whose features are clustered, of all layers
    hook varchar,
    variant varchar,
    method varchar,         -- 'leiden_modularity', 'leiden_cpm', 'louvain', 'components'
    resolution double,
    measure varchar,        -- of the edges: 'pearson', 'jaccard', …
    at_least double,        -- the least of it that makes an edge
    seed bigint,
    n_communities bigint,
    quality double,
    stability double        -- mean agreement with reruns of other seeds; null where nothing is random
);

-- one row per (clustering, feature)
create table communities (
    clustering_id integer,
    community integer,      -- 0, 1, …, the largest first
    feature_id bigint
);

-- one row per (clustering, community)
create table community_labels (
    clustering_id integer,
    community integer,
    label varchar,
    n_features bigint
);

-- one row per (run, feature, feature): what b loses when a is ablated in the running model
create table ablations (
    run_id integer,
    feature_a bigint,
    feature_b bigint,
    n_tokens bigint,        -- tokens on which b exceeds 1 % of its maximum and a is active
    mean_before double,     -- activation of b there, in its SAE's units
    mean_after double,
    effect double           -- mean_before − mean_after
);
