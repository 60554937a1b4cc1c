-- Kernel of gates(): the rows as a list. Here only a stand-in for clients without Python.
create or replace macro _gates(
    a, b, kinds_, n_inputs_, at_least_, min_lift_, min_gain_, min_joint_, above_
) as error(
    'gates() computes in Python: open the atlas with atlas.open() or `atlas sql`, or ask for one gate'
    ' with gate(), which is SQL alone.'
)::struct(
    output varchar,
    kind varchar,
    inputs varchar[],
    confirmed boolean,
    sufficiency double,
    sufficiency_held_out double,
    necessity double,
    necessity_held_out double,
    lift double,
    lift_held_out double,
    lifts double[],
    jaccard double,
    jaccard_held_out double,
    single varchar,
    single_jaccard double,
    single_jaccard_held_out double,
    p_held_out double,
    q_held_out double,
    n_gate bigint,
    n_output bigint,
    n_both bigint,
    n_gate_held_out bigint,
    n_output_held_out bigint,
    n_both_held_out bigint,
    over varchar,
    output_id bigint,
    input_ids bigint[],
    single_id bigint
)[];
