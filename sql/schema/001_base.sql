-- The base tables of an atlas: models, reference corpus, SAEs, features and their activations.
--
-- Only types that a DuckLake store accepts too, except the fixed-width signature: no enum,
-- sequence, HUGEINT, key or index. What would be a constraint is a query in sql/checks/.
-- Activations are fixed-point integers: activation = q * saes.scale, and scale is a power of two,
-- so every sum over q is exact in any order.

-- one row per key: format version, corpus settings, content stamp
create table meta (
    key varchar,
    value varchar
);

-- one row per writing command
create table runs (
    run_id integer,
    command varchar,        -- 'ingest'
    plan varchar,           -- sha256 of everything that decides the result
    config varchar,         -- JSON: the options as resolved
    circumstances varchar,  -- JSON: package versions, device, threads, reference corpus
    seed bigint,
    started_at timestamp,
    ended_at timestamp,
    status varchar          -- 'done'
);

-- one row per corpus; the reference corpus is corpus 0
create table corpora (
    corpus_id integer,
    name varchar,
    source varchar,
    licence varchar,
    sha256 varchar,         -- of the documents' texts, each followed by a zero byte
    n_documents bigint,
    n_characters bigint,
    n_words bigint,
    run_id integer
);

-- one row per document of the reference corpus
create table documents (
    document_id bigint,     -- 0, 1, …: even documents explain features, odd ones score explanations
    corpus_id integer,
    source varchar,         -- file or record the text came from
    text varchar
);

-- one row per word of the reference corpus: the unit on which models with different tokenizers meet
create table words (
    word bigint,            -- 0, 1, … through the whole corpus
    document_id bigint,
    start_char integer,     -- character span [start_char, end_char) in the document
    end_char integer,
    form varchar            -- the word's text without the white space that ends it
);

-- one row per tokenizer
create table tokenizers (
    tokenizer_id integer,
    name varchar,
    sha256 varchar,
    n_vocab integer,
    first_token bigint,     -- its tokens are first_token … first_token + n_tokens - 1
    n_tokens bigint,
    run_id integer
);

-- one row per token id of a tokenizer
create table vocabulary (
    tokenizer_id integer,
    token_id integer,
    text varchar,           -- as it appears in running text, leading space included
    n_tokens bigint         -- occurrences on the reference corpus
);

-- one row per token of a tokenizer on the reference corpus; BOS and padding have no row
create table tokens (
    token bigint,           -- unique across tokenizers
    document_id bigint,
    position integer,       -- in the document
    token_id integer,
    start_char integer,     -- character span [start_char, end_char) in the document
    end_char integer,
    word bigint             -- the word its last character falls in
);

-- one row per language model
create table models (
    model_id integer,
    name varchar,
    source varchar,         -- hub id or folder
    revision varchar,
    sha256 varchar,         -- of the weights
    model_type varchar,     -- 'llama', 'gpt_neox', …
    n_layers integer,
    d_model integer,
    n_parameters bigint,
    is_causal boolean,
    prepends_bos boolean,
    block_path varchar,     -- where its blocks were found: 'model.layers'
    tokenizer_id integer,
    run_id integer
);

-- one row per SAE: activation = encode((x * input_scale) - pre_bias)
create table saes (
    sae_id integer,
    model_id integer,
    name varchar,           -- 'stories260k/3-resid_post'
    layer integer,
    hook varchar,           -- resid_pre, resid_post, mlp_out, attn_out
    variant varchar,
    architecture varchar,   -- 'topk'
    d_in integer,
    d_sae integer,
    k integer,
    first_feature_id bigint,
    input_scale double,     -- the input is multiplied by this before the encoder, the output divided by it
    pre_bias float[],       -- subtracted from the scaled input
    b_dec float[],          -- added to the decoder's output, in scaled units
    scale double,           -- activation = q * scale, a power of two
    context integer,        -- tokens per context on the reference corpus, BOS not counted
    source varchar,         -- 'trained' or where it was imported from
    sha256 varchar,         -- of its parameters
    train_tokens bigint,
    held_out boolean,       -- true if training never saw the reference documents
    run_id integer
);

-- one row per (SAE, metric): quality on the reference corpus
create table sae_metrics (
    sae_id integer,
    metric varchar,         -- see the header of views/sae_cards.sql for each definition
    value double,
    run_id integer
);

-- one row per feature, with its sums over tokens and over words
create table features (
    feature_id bigint,      -- saes.first_feature_id + index
    sae_id integer,
    index integer,
    alive boolean,          -- n_active > 0
    density double,         -- n_active / tokens of the reference corpus
    n_active bigint,        -- tokens
    sum_q bigint,
    sum_q2 bigint,
    max_q integer,
    quantiles_q integer[],  -- of the active tokens' q at .1 .25 .5 .75 .9 .99 (lower order statistic); empty if dead
    word_n_active bigint,   -- a word's activation is the maximum over its tokens
    word_sum_q bigint,
    word_sum_q2 bigint
);

-- one row per feature: its directions and its sketch
create table vectors (
    feature_id bigint,
    encoder float[],        -- d_in: W_enc[:, index]
    encoder_bias float,     -- b_enc[index]
    threshold float,        -- null unless the architecture has one
    decoder float[],        -- d_out: W_dec[index]
    signature float[512]    -- unit count-sketch of the centred word activations; zeros if dead
);

-- one row per (feature, token) with a non-zero activation, clustered by feature, then token
create table activations (
    feature_id bigint,
    token bigint,
    q integer               -- activation = q * saes.scale
);

-- one row per (feature, rank): contexts to read
create table examples (
    feature_id bigint,
    rank integer,           -- 1, 2, … over all strata, strongest first within a stratum, 'top' first
    stratum varchar,        -- 'top', or 'q1' (weakest) … 'q5' (strongest fifth of the active tokens)
    split varchar,          -- 'explain' (even documents) or 'score' (odd documents)
    token bigint,           -- where the activation peaks
    q integer,
    first_token bigint,     -- window shown: first_token … last_token, within the context
    last_token bigint
);

-- one row per (feature, token id) among the most promoted and most suppressed: the logit lens
create table token_effects (
    feature_id bigint,
    token_id integer,
    rank integer,           -- 1, 2, … most promoted; -1, -2, … most suppressed
    effect float            -- decoder direction, times the final norm's gain, times the unembedding, centred
);

-- one row per (feature, token id) among the ids with the largest activation mass
create table token_stats (
    feature_id bigint,
    token_id integer,
    n_active bigint,
    sum_q bigint,
    max_q integer
);

-- one row per (feature, lower-case word form) among the forms with the largest activation mass
create table word_stats (
    feature_id bigint,
    form varchar,
    n_active bigint,        -- words, not tokens
    n_words bigint,         -- occurrences of the form on the reference corpus
    sum_q bigint,
    max_q integer
);

-- one row per (feature, method, run): competing labels stand side by side
create table labels (
    feature_id bigint,
    text varchar,
    method varchar,         -- 'words': from the tokens alone
    explainer varchar,      -- program or model that wrote it
    score double,
    scored_by varchar,      -- how: 'f1 on the score split', …
    run_id integer
);
