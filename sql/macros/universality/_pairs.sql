-- Kernel of pairs(): the rows as a list. Here only a stand-in for clients without Python.
create or replace macro _pairs(a, b, method_, over_, min_joint_, concepts_only_, shifts_, seed_) as error(
    'pairs() computes in Python: open the atlas with atlas.open() or `atlas sql`; pairs that were'
    ' kept are in the view counterparts and the table feature_pairs.'
)::struct(
    feature_a varchar,
    feature_b varchar,
    r double,
    r_chosen double,
    r_held_out double,
    n_both bigint,
    p double,
    q double,
    distance double,
    id_a bigint,
    id_b bigint
)[];
