-- Features of neighbouring layers of which one is a part of the other. One row per pair.
--
-- The part is hardly ever active without the whole, and the whole often without the part.
-- share: P(part | whole); within: P(whole | part); share_high, within_low: limits of their intervals
-- lift: within over the whole's rate
--
-- min_within: least lower limit of within
-- max_share: greatest upper limit of share
-- min_lift: least lift
-- max_pearson: Pearson's r from which on the two are the same
-- down: true where the whole is upstream
create or replace macro _parts(
    min_within, max_share, min_lift, max_pearson, confidence, strong, down
) as table
with
directed as (
    select
        if(down, feature_id, next_id) as whole_id,
        if(down, next_id, feature_id) as part_id,
        if(down, n_a, n_b) as n_whole,
        if(down, n_b, n_a) as n_part,
        n_both,
        n,
        pearson
    from _neighbour_pairs(strong)
),
close as materialized (
    select
        whole_id,
        part_id,
        n_whole,
        n_part,
        n_both,
        n_both / n_whole as share,
        n_both / n_part as within,
        n * n_both / (n_whole * n_part) as lift
    from directed
    -- The limits lie beyond the shares themselves, which are faster to tell.
    where n_both >= min_within * n_part
    and n_both <= max_share * n_whole
    and n * n_both >= min_lift * n_whole * n_part
    and (pearson >= max_pearson) is distinct from true
),
limited as (
    select
        close.*,
        share_interval(n_both, n_part, confidence).low as within_low,
        share_interval(n_both, n_whole, confidence).high as share_high
    from close
)
select
    saes_whole.name || '/' || whole.index as whole,
    saes_part.name || '/' || part.index as part,
    limited.share,
    limited.share_high,
    limited.within,
    limited.within_low,
    limited.lift,
    limited.n_whole::bigint as n_whole,
    limited.n_part::bigint as n_part,
    limited.n_both::bigint as n_both,
    saes_whole.name as whole_sae,
    saes_part.name as part_sae,
    saes_whole.layer as whole_layer,
    saes_part.layer as part_layer,
    limited.whole_id,
    limited.part_id
from limited
join features as whole on whole.feature_id = limited.whole_id
join features as part on part.feature_id = limited.part_id
join saes as saes_whole on saes_whole.sae_id = whole.sae_id
join saes as saes_part on saes_part.sae_id = part.sae_id
where limited.within_low >= min_within
and limited.share_high <= max_share;
