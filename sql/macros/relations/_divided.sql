-- Features that several of a neighbouring layer together stand for. One row per feature.
--
-- min_cover … strong: as in splits()
-- down: true where the parts are downstream
create or replace macro _divided(
    min_cover,
    min_within,
    max_share,
    min_lift,
    max_pearson,
    max_overlap,
    confidence,
    strong,
    down
) as table
with
parts as materialized (
    from _parts(min_within, max_share, min_lift, max_pearson, confidence, strong, down)
),
several as materialized (
    select
        whole_id,
        any_value(whole) as whole,
        any_value(n_whole) as n_whole,
        any_value(whole_sae) as whole_sae,
        any_value(part_sae) as part_sae,
        any_value(whole_layer) as whole_layer,
        any_value(part_layer) as part_layer,
        list(
            {'part': part, 'share': share, 'within': within, 'id': part_id}
            order by share desc, part_id
        ) as parts
    from parts
    group by whole_id
    having count(*) > 1
    -- It is between the cover and the overlap, which take longer to count.
    and sum(share) between min_cover and max_overlap
),
-- Activations are read once, of those features alone.
fired as materialized (
    select
        activations.feature_id,
        activations.token
    from (
        select whole_id as feature_id
        from several
        union
        select parts.part_id
        from parts
        join several on several.whole_id = parts.whole_id
    ) as concerned
    join features on features.feature_id = concerned.feature_id
    join activations on activations.feature_id = concerned.feature_id
    where not strong
    or 5 * activations.q > features.max_q
),
covered as (
    select
        whole_id,
        count(*) as n_covered,
        sum(n_parts) as n_firings
    from (
        select
            several.whole_id,
            of_whole.token,
            count(*) as n_parts
        from several
        join parts on parts.whole_id = several.whole_id
        join fired as of_part on of_part.feature_id = parts.part_id
        join fired as of_whole
            on of_whole.feature_id = several.whole_id and of_whole.token = of_part.token
        group by several.whole_id, of_whole.token
    ) as per_token
    group by whole_id
),
limited as (
    select
        several.*,
        covered.n_covered / several.n_whole as cover,
        share_interval(covered.n_covered, several.n_whole, confidence).low as cover_low,
        covered.n_firings / covered.n_covered as overlap
    from several
    join covered on covered.whole_id = several.whole_id
)
select
    whole as feature,
    parts,
    cover,
    cover_low,
    overlap,
    n_whole as n_active,
    whole_sae as sae,
    part_sae as parts_sae,
    whole_layer as layer,
    part_layer as parts_layer,
    whole_id as feature_id
from limited
where cover_low >= min_cover
and overlap <= max_overlap;
