-- Features that several of the layer before together were. One row per downstream feature.
--
-- Each part is an upstream feature hardly ever active without the feature (see generalised), none of
-- them is all of it, and together they are active on nearly all of its tokens. Of two parts, this is
-- an OR; see gates, which tests it on documents that had no say.
-- splits and merges leave one-to-one matching behind: what was one feature is several, or what was
-- several is one. `merges` alone is the same with these defaults.
-- parts: list of structs, the largest share first; share is how much of the feature's activity is
-- the part's, within how much of the part's is the feature's, id the part's feature_id
-- cover: share of the feature's tokens on which at least one of the parts is active; counted on the
-- stored activations, as parts may overlap
-- cover_low: lower limit of its interval; see share_interval
-- overlap: parts active at once, the mean over the tokens covered; 1 if they divide it
--
-- min_cover: least lower limit of cover
-- min_within: least lower limit of P(feature | part)
-- max_share: greatest upper limit of P(part | feature): a part that is nearly all of it is none
-- min_lift: least P(feature | part) over the feature's rate
-- confidence: share of such intervals that hold the true share
-- strong: true for activity above a fifth of the maximum, as in edges_strong
--
--     select feature, len(parts) as n, cover, overlap from merges order by cover desc limit 5
--
--     select feature, unnest(parts, recursive := true) from merges(min_cover := 0.8)
create or replace macro merges(
    min_cover := 0.9,
    min_within := 0.9,
    max_share := 0.9,
    min_lift := 2,
    confidence := 0.95,
    strong := false
) as table
with
parts as materialized (
    select
        child_id as feature_id,
        parent_id as part_id,
        necessity as share,
        sufficiency as within,
        n_child as n_active
    from generalised(
        min_sufficiency := min_within,
        max_necessity := max_share,
        min_lift := min_lift,
        confidence := confidence,
        strong := strong
    )
),
several as materialized (
    select
        feature_id,
        any_value(n_active) as n_active,
        list({'share': share, 'before': -part_id, 'within': within}) as found
    from parts
    group by feature_id
    having count(*) > 1
    and sum(share) >= min_cover
),
covered as (
    select
        per_token.feature_id,
        count(*) as n_covered,
        sum(per_token.n_parts) as n_firings
    from (
        select
            parts.feature_id,
            whole.token,
            count(*) as n_parts
        from several
        join parts on parts.feature_id = several.feature_id
        join features as features_whole on features_whole.feature_id = several.feature_id
        join features as features_part on features_part.feature_id = parts.part_id
        join activations as part on part.feature_id = parts.part_id
        join activations as whole
            on whole.feature_id = several.feature_id and whole.token = part.token
        where not strong
        or (5 * whole.q > features_whole.max_q and 5 * part.q > features_part.max_q)
        group by parts.feature_id, whole.token
    ) as per_token
    group by per_token.feature_id
),
limited as (
    select
        several.*,
        covered.n_covered / several.n_active as cover,
        share_interval(covered.n_covered, several.n_active, confidence).low as cover_low,
        covered.n_firings / covered.n_covered as overlap
    from several
    join covered on covered.feature_id = several.feature_id
)
select
    saes.name || '/' || features.index as feature,
    list_transform(
        list_reverse_sort(limited.found),
        lambda f: {
            'part': theirs.name || '/' || (-f.before - theirs.first_feature_id),
            'share': f.share,
            'within': f.within,
            'id': -f.before
        }
    ) as parts,
    limited.cover,
    limited.cover_low,
    limited.overlap,
    limited.n_active,
    saes.name as sae,
    theirs.name as parts_sae,
    saes.layer,
    theirs.layer as parts_layer,
    limited.feature_id
from limited
join features on features.feature_id = limited.feature_id
join saes on saes.sae_id = features.sae_id
join features as of_part on of_part.feature_id = -limited.found[1].before
join saes as theirs on theirs.sae_id = of_part.sae_id
where limited.cover_low >= min_cover;
