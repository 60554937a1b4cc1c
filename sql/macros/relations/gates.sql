-- Features that are AND, OR or AND NOT of two or three features of another SAE. One row per gate.
--
-- Tested jointly on the stored activations: found on the even documents, told again on the odd ones,
-- which had no say. A gate is listed if, on the even documents,
-- (1) P(output | gate) and P(gate | output) are both at_least,
-- (2) each input raises the share that it is there to raise by min_lift or more,
-- (3) the gate's Jaccard index with the output exceeds that of every single feature of the first SAE
--     by more than min_gain, and
-- (4) the gate is true and the output active on min_joint units or more.
-- Balcells et al., arXiv 2410.08869, who named these quasi-Boolean features, looked at pairs alone:
-- for an AND, that exactly two features have necessity 0.999. Of one output there may be several
-- gates, with much the same inputs; the one with the highest jaccard tells it best.
-- Not every combination is tried, as there are too many. Inputs are screened by what each does alone
-- on the even documents: of an AND, and the first of an AND NOT, P(input | output) is at_least, which
-- leaves out no gate; of an OR, P(output | input) is at_least, so an OR is missed if one of its inputs
-- is often active without the output. Neither may do so well alone that min_lift cannot be reached.
-- The others of an AND NOT are active with the first on enough units to matter. Of each output, 24
-- inputs are tried in gates of two and 12 in those of three (of an AND NOT: as many others with each
-- first), those that go with it most. So thousands are tried, and they are chosen on the documents
-- that tell (1) to (4): the even ones give no p. The odd ones do, for all that are listed.
-- The SAEs need not be linked. Units are tokens of a common tokenizer, else words. As activations
-- come in runs within a text, documents are what p counts; the intervals count units, and are the
-- narrower for it.
-- kind: 'and', all inputs are active; 'or', at least one; 'and_not', the first and none of the others
-- confirmed: (1) to (4) hold again on the odd documents alone, and q_held_out is at most 0.05
-- sufficiency, necessity, jaccard: P(output | gate), P(gate | output), and of the units on which
-- either is so, those with both; on the even documents, as all without _held_out
-- sufficiency_held_out, necessity_held_out, jaccard_held_out: on the odd ones
-- sufficiency_held_out_low, necessity_held_out_low: lower limits of their intervals
-- lift: P(output | gate) over the same without one of the inputs (of 'or' so with P(gate | output)):
-- the least of lifts, which has one for each input
-- single, single_jaccard: the one feature that tells the output best
-- p_held_out: chance that the odd documents speak as much by luck for the least certain claim, that
-- an input raises the share or that the gate has a higher Jaccard index than single: each document's
-- part in it may as well have the other sign (Hemerik, Goeman & Finos, doi 10.1111/rssb.12369); an
-- upper bound
-- q_held_out: p_held_out after Benjamini & Hochberg (1995) over all rows of the question
-- n_gate, n_output, n_both: units on which the gate is true, the output active, and both
--
-- sae_a, sae_b: names or ids of two SAEs: that of the inputs, upstream as a rule, and the outputs'
-- kinds: list of 'and', 'or' and 'and_not'
-- n_inputs: 2, or 3 for gates of two and of three inputs
-- at_least: least P(output | gate) and P(gate | output)
-- min_lift: least lift
-- min_gain: what jaccard exceeds single_jaccard by, at least; 0.02 is one in fifty of the units on
-- which gate or output is active: with less, the other inputs tell hardly more than the first
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
    min_gain := 0.02,
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
            min_gain::double,
            min_joint::integer,
            above::double
        ),
        max_depth := 2
    )
) as found;
