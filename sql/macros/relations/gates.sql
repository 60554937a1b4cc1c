-- Features that are AND, OR or AND NOT of two or three features of another SAE. One row per gate.
--
-- Tested jointly on the stored activations: found on the even documents, told again on the odd ones,
-- which had no say. A gate is listed if, on the even documents,
-- (1) P(output | gate) and P(gate | output) are both at_least,
-- (2) each input raises the share that it is there to raise by min_lift or more,
-- (3) no single feature of the first SAE tells the output as well, by the Jaccard index, and
-- (4) the gate is true and the output active on min_joint units or more.
-- Balcells et al., arXiv 2410.08869, who named these quasi-Boolean features, looked at pairs alone:
-- for an AND, that exactly two features have necessity 0.999. Of one output there may be several
-- gates, with much the same inputs; the one with the highest jaccard tells it best.
-- The SAEs need not be linked. Units are tokens of a common tokenizer, else words; where activations
-- come in runs within a text, the truth is less certain than p and the intervals say, so go by what
-- is held out.
-- kind: 'and', all inputs are active; 'or', at least one; 'and_not', the first and none of the others
-- confirmed: q is at most 0.05, and on the odd documents alone (1) to (4) hold again and p_held_out
-- is at most 0.05
-- sufficiency, necessity, jaccard: P(output | gate), P(gate | output), and of the units on which
-- either is so, those with both; on the even documents, as all without _held_out
-- sufficiency_held_out, necessity_held_out, jaccard_held_out: on the odd ones
-- sufficiency_held_out_low, necessity_held_out_low: lower limits of their intervals
-- lift: P(output | gate) over the same without one of the inputs (of 'or' so with P(gate | output)):
-- the least of lifts, which has one for each input
-- single, single_jaccard: the one feature that tells the output best
-- p: chance that the least of the inputs raises the share as much by luck, by Fisher's exact test
-- q: p after Benjamini & Hochberg (1995) over all combinations that were tried
-- n_gate, n_output, n_both: units on which the gate is true, the output active, and both
--
-- sae_a, sae_b: names or ids of two SAEs: that of the inputs, upstream as a rule, and the outputs'
-- kinds: list of 'and', 'or' and 'and_not'
-- n_inputs: 2, or 3 for gates of two and of three inputs
-- at_least: least P(output | gate) and P(gate | output)
-- min_lift: least lift
-- min_joint: least n_both, on the even and on the odd documents
-- above: share of a feature's maximum that it must exceed to be active; the paper's is 0.2
-- confidence: share of the intervals that hold the true share
--
--     select output, kind, inputs, sufficiency_held_out, necessity_held_out, lift_held_out
--     from gates('stdlib-a/1-resid_post', 'stdlib-a/3-resid_post') where confirmed
--
--     -- The best one of each output.
--     from gates('stdlib-a/1-resid_post', 'stdlib-a/3-resid_post', kinds := ['and', 'or'], n_inputs := 3)
--     qualify row_number() over (partition by output order by jaccard desc) = 1
create or replace macro gates(
    sae_a,
    sae_b,
    kinds := ['and', 'or', 'and_not'],
    n_inputs := 2,
    at_least := 0.8,
    min_lift := 1.25,
    min_joint := 20,
    above := 0.0,
    confidence := 0.95
) as table
select
    found.*,
    share_interval(found.n_both_held_out, found.n_gate_held_out, confidence).low
        as sufficiency_held_out_low,
    share_interval(found.n_both_held_out, found.n_output_held_out, confidence).low
        as necessity_held_out_low
from (
    -- Not recursive: the lists of inputs stay whole.
    select unnest(
        _gates(
            sae_id(sae_a)::varchar,
            sae_id(sae_b)::varchar,
            kinds::varchar[],
            n_inputs::integer,
            at_least::double,
            min_lift::double,
            min_joint::integer,
            above::double
        ),
        max_depth := 2
    )
) as found;
