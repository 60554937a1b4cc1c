-- Dictionaries of every architecture and origin: several hook points, skip connections, declarations.

-- how a feature's activation is computed: a key of atlas.sae.ACTIVATIONS ('relu', 'jumprelu', …);
-- `architecture` is what it was trained as, and `k` null where any number may be active
alter table saes add column activation varchar;
-- length of the decoder directions
alter table saes add column d_out integer;
-- the decoder's output is divided by this
alter table saes add column output_scale double;
-- what is done to each input first: 'none', 'layer_norm', 'constant_norm'
alter table saes add column normalize varchar;
-- of an imported one: 'conforms', 'undeclared', or a sentence on what deviates; null if trained here
alter table saes add column quality varchar;
-- of an imported one, JSON: its format, its configuration as published, and what was folded
alter table saes add column conventions varchar;

update saes
set
    activation = 'topk',
    d_out = len(b_dec),
    output_scale = input_scale,
    normalize = 'none';

-- raised whenever a metric of that name comes to mean another number; see views/metrics.sql
alter table sae_metrics add column version integer;

update sae_metrics
set version = 1;

-- one row per (SAE, role, place): the hook points it reads and writes, side by side in one vector
create table sae_sites (
    sae_id integer,
    role varchar,           -- 'input' or 'output'
    place integer,          -- 0, 1, …
    model_id integer,
    layer integer,
    hook varchar,
    first_column integer,   -- its part of encoder or decoder directions is first_column … + width - 1
    width integer
);

insert into sae_sites
select
    sae_id,
    unnest(['input', 'output']),
    0,
    model_id,
    layer,
    hook,
    0,
    unnest([d_in, len(b_dec)])
from saes
order by sae_id;

-- of an output: root mean square distance of the activations there from their mean, on the reference
-- corpus; what is 1 in the units of one hook point may be 1,000 in those of another
alter table sae_sites add column spread double;
-- of an output: the share of the activations' variance there that is explained
alter table sae_sites add column explained_variance double;

-- one row per (SAE, tensor, row): what few architectures have beside encoder and decoder
create table sae_tensors (
    sae_id integer,
    tensor varchar,         -- 'W_skip' (d_in, d_out), 'W_router' (d_in, n_experts), 'b_router' (one row)
    row integer,
    entries float[]
);

-- one row per (SAE, metric) that the publisher of an imported SAE states
create table declared_metrics (
    sae_id integer,
    metric varchar,         -- a name of sae_metrics
    value double
);

-- one row per (SAE, metric, tokens trained on): the course of a training
create table training_records (
    sae_id integer,
    tokens bigint,
    metric varchar,         -- explained_variance, l0, loss, dead_share, …
    value double
);

-- largest cosine of the decoder direction to that of another feature of the SAE; null if it has no
-- direction, is the SAE's only one, or came into the atlas before this column
alter table vectors add column max_cosine float;

-- one row per (SAE, property, k): a k-sparse probe; see views/probe_scores.sql
create table probes (
    sae_id integer,
    property varchar,       -- 'first_of_word', 'capital', …
    k integer,
    features integer[],     -- by index, the most telling first; fewer than k where no more tell anything
    n_tokens bigint,        -- scored on: tokens of the 'score' documents
    n_positive bigint,      -- of these, with the property
    balanced_accuracy double,
    f1 double,
    auc double
);

-- one row per (SAE, letter) that the model knows; see views/absorption_scores.sql
create table absorptions (
    sae_id integer,
    letter varchar,
    probe_f1 double,        -- of a linear probe on the activations, in words it has not seen
    main integer[],         -- the letter's main features by index, the first one first
    main_f1 double,         -- of a probe on these
    n_words bigint,         -- words that begin with the letter, in which the linear probe finds it
    full_share double,      -- of these words, with full absorption
    fraction double,        -- mean absorbed fraction
    absorbers integer[]     -- features that absorb fully, by index, most often first
);
