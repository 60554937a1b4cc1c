-- The features whose decoder directions are most like a given one's at one hook point, in SQL alone.
--
-- The way from a crosscoder to SAEs, and between crosscoders of unlike hook points: of every
-- direction, the part that belongs to one hook point is compared (see site_decoders), and the score
-- is the exact cosine. Every feature with a part in the same space is scored, and listed with the
-- part that is nearest. Features that are never active are left out, and give no rows.
-- site: the hook point of that part
-- share: its share of the norms; a direction that hardly writes there points anywhere
--
-- feature: name or id
-- at_site: hook point that the feature writes, '1-resid_post', with the model before it if need be
-- k: how many
-- within: name of the model or SAE to search in, or a pattern of SAEs' names; null for everything
--
--     from similar_at('stdlib-a/1-resid_post/12', 'stdlib-a/1-resid_post', k := 5)
create or replace macro similar_at(feature, at_site, k := 10, within := null) as table
with
asked as (
    select
        feature_id(feature) as feature_id,
        if(
            k < 1, error('k is the number of neighbours, at least 1, not ' || k || '.'), at_site
        )::varchar as wanted,
        within as within,
        saes_in(within) as sae_ids
),
written as (
    select
        asked.feature_id,
        asked.wanted,
        asked.within,
        asked.sae_ids,
        any_value(site_decoders.feature) as feature,
        list(site_decoders.site order by site_decoders.place) as sites,
        list(site_decoders order by site_decoders.place) filter (
            site_decoders.site = asked.wanted or ends_with(site_decoders.site, '/' || asked.wanted)
        ) as fitting
    from asked
    join features on features.feature_id = asked.feature_id
    join site_decoders on site_decoders.feature_id = asked.feature_id
    where features.alive
    group by all
),
own as (
    select
        written.feature_id,
        written.sae_ids,
        written.within,
        if(
            len(written.fitting) = 1,
            written.fitting[1],
            error(
                written.feature || ' writes ' || list_aggregate(written.sites, 'string_agg', ', ')
                || '; name one of these, not ''' || written.wanted || '''.'
            )
        ) as part
    from written
),
held as (
    select
        _sites.space,
        list(_sites.sae_id) as sae_ids
    from _sites
    where _sites.role = 'output'
    group by _sites.space
),
sought as (
    select
        own.feature_id,
        own.part.space as space,
        own.part.direction::double[] as direction,
        own.part.norm as norm,
        if(
            list_has_any(own.sae_ids, held.sae_ids),
            own.sae_ids,
            error(_apart(own.within, 'decoder', own.part.space))::integer[]
        ) as sae_ids
    from own
    join held on held.space = own.part.space
),
scored as (
    select
        theirs.feature_id,
        theirs.feature,
        theirs.place,
        theirs.site,
        theirs.share,
        _cosine(
            list_inner_product(sought.direction, theirs.direction::double[]),
            sought.norm * sought.norm,
            theirs.norm * theirs.norm
        ) as score
    from sought
    join site_decoders as theirs on theirs.space = sought.space
    join features on features.feature_id = theirs.feature_id
    where features.alive
    and theirs.feature_id != sought.feature_id
    and list_contains(sought.sae_ids, features.sae_id)
),
nearest as (
    select
        scored.feature_id,
        scored.feature,
        arg_max({'site': scored.site, 'share': scored.share}, (scored.score, -scored.place)) as part,
        max(scored.score) as score
    from scored
    where scored.score is not null
    group by scored.feature_id, scored.feature
)
select
    (row_number() over (order by nearest.score desc, nearest.feature_id))::integer as rank,
    nearest.feature,
    nearest.score,
    nearest.part.site as site,
    nearest.part.share as share,
    nearest.feature_id
from nearest
qualify rank <= k
order by rank;
