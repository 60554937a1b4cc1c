-- Whether layers and models commute: on, then across, or across, then on. One row per two neighbours.
--
-- For two neighbouring layers of one model and two of another, of a feature of the first: its strongest
-- edge on and the counterpart of what that leads to, against its counterpart and the strongest edge
-- from there. Links (`atlas link`) and one-to-one pairings (`atlas compare`) are read, none computed;
-- there are rows for the squares of SAEs of which both links and both pairings are stored.
--
-- sae, next_sae, other_sae, other_next_sae: the square's corners
-- n_on_across, n_across_on: features for which one way and the other leads somewhere
-- n_both, n_same: for which both do, and to the same feature; agreement: n_same of n_both. Two ways
-- that are unlike would agree by luck about once in as many times as the SAE has features
--
-- measure, at_least, strong: as in descendants(), for the edges of both models
-- max_q, min_r: which counterparts count, as in lineage()
--
--     from cycle_consistency(min_r := 0.3) order by agreement desc
create or replace macro cycle_consistency(
    measure := 'pearson', at_least := 0.5, strong := false, max_q := 0.05, min_r := 0
) as table
with
partners as materialized (
    from _partners(measure, at_least, strong)
    where _edges_asked(measure, at_least, null)
),
across as materialized (
    select
        counterparts.feature_id,
        counterparts.counterpart_id,
        features.sae_id as counterpart_sae_id
    from counterparts
    join features on features.feature_id = counterparts.counterpart_id
    where counterparts.model != counterparts.counterpart_model
    and counterparts.q <= max_q
    and counterparts.r >= min_r
),
squares as (
    select
        ours.sae_id,
        ours.next_sae_id,
        theirs.sae_id as other_sae_id,
        theirs.next_sae_id as other_next_sae_id,
        ours.sae,
        ours.next_sae,
        theirs.sae as other_sae,
        theirs.next_sae as other_next_sae
    from _layer_links as ours
    join _deciding_pairings as level on level.sae_id = ours.sae_id
    join _layer_links as theirs on theirs.sae_id = level.counterpart_sae_id
    join _deciding_pairings as next_level
        on next_level.sae_id = ours.next_sae_id
        and next_level.counterpart_sae_id = theirs.next_sae_id
    where ours.link_id is not null
    and theirs.link_id is not null
    and theirs.model_id != ours.model_id
),
found as (
    select
        squares.*,
        on_across.counterpart_id as on_across_id,
        across_on.partner_id as across_on_id
    from squares
    join features on features.sae_id = squares.sae_id
    left join partners as onward
        on onward.feature_id = features.feature_id
        and onward.sae_id_b = squares.next_sae_id
    left join across as on_across
        on on_across.feature_id = onward.partner_id
        and on_across.counterpart_sae_id = squares.other_next_sae_id
    left join across
        on across.feature_id = features.feature_id
        and across.counterpart_sae_id = squares.other_sae_id
    left join partners as across_on
        on across_on.feature_id = across.counterpart_id
        and across_on.sae_id_b = squares.other_next_sae_id
)
select
    sae,
    next_sae,
    other_sae,
    other_next_sae,
    count(on_across_id) as n_on_across,
    count(across_on_id) as n_across_on,
    count(*) filter (on_across_id is not null and across_on_id is not null) as n_both,
    count(*) filter (on_across_id = across_on_id) as n_same,
    n_same / nullif(n_both, 0) as agreement
from found
group by all
order by sae, other_sae;
