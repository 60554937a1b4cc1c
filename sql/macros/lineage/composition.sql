-- Whether best partners compose: from a first layer to a last one directly, or by one between. One row.
--
-- As SAE Match (Balagansky et al., arXiv 2410.07656) asks of its matchings, P(A→C) ≈ P(B→C)·P(A→B):
-- is the partner in C of a feature of A the partner of its partner in B? The partner is the feature
-- with the strongest edge. It takes three links, of which `atlas ingest` makes those of neighbouring
-- layers; where one is missing, the error says how to make it.
--
-- distance: layers from the first to the last
-- n_direct, n_composed: features of the first SAE with a partner in the last one, either way
-- n_both, n_same: of these, with both, and with the same one both ways; agreement: n_same of n_both
--
-- first, mid, last: names or ids of three SAEs, upstream first, also columns of them
-- measure, at_least, strong: as in descendants(), for all three links
--
--     select p.sae_a as first, q.sae_b as last, c.distance, c.n_both, c.agreement
--     from link_cards p join link_cards q on q.sae_a = p.sae_b
--     join link_cards d on d.sae_a = p.sae_a and d.sae_b = q.sae_b,
--     composition(p.sae_a, p.sae_b, q.sae_b) c
create or replace macro composition(
    first, mid, last, measure := 'pearson', at_least := 0.5, strong := false
) as table
with
-- Uncorrelated, so that a join with many triples computes partners once.
partners as materialized (
    from _partners(measure, at_least, strong)
    where _edges_asked(measure, at_least, null)
),
asked as (
    select
        sae_id("first") as sae_a,
        sae_id("mid") as sae_b,
        sae_id("last") as sae_c
),
linked as (
    select
        asked.*,
        sae_first.name as name_a,
        sae_last.name as name_c,
        sae_last.layer - sae_first.layer as distance
    from asked
    join saes as sae_first on sae_first.sae_id = asked.sae_a
    join saes as sae_mid on sae_mid.sae_id = asked.sae_b
    join saes as sae_last on sae_last.sae_id = asked.sae_c
    left join links as links_ab on links_ab.sae_a = asked.sae_a and links_ab.sae_b = asked.sae_b
    left join links as links_bc on links_bc.sae_a = asked.sae_b and links_bc.sae_b = asked.sae_c
    left join links as links_ac on links_ac.sae_a = asked.sae_a and links_ac.sae_b = asked.sae_c
    where case
        when links_ab.link_id is null then
            error(_not_linked(sae_first.name, sae_mid.name))::boolean
        when links_bc.link_id is null then
            error(_not_linked(sae_mid.name, sae_last.name))::boolean
        when links_ac.link_id is null then
            error(_not_linked(sae_first.name, sae_last.name))::boolean
        else true
    end
),
found as (
    select
        linked.distance,
        direct.partner_id as direct_id,
        onward.partner_id as composed_id
    from linked
    join features on features.sae_id = linked.sae_a
    left join partners as direct
        on direct.feature_id = features.feature_id
        and direct.sae_id_b = linked.sae_c
    left join partners as half
        on half.feature_id = features.feature_id
        and half.sae_id_b = linked.sae_b
    left join partners as onward
        on onward.feature_id = half.partner_id
        and onward.sae_id_b = linked.sae_c
)
select
    any_value(distance) as distance,
    count(direct_id) as n_direct,
    count(composed_id) as n_composed,
    count(*) filter (direct_id is not null and composed_id is not null) as n_both,
    count(*) filter (direct_id = composed_id) as n_same,
    n_same / nullif(n_both, 0) as agreement
from found;
