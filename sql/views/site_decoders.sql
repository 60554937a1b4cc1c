-- Decoder directions cut by the hook points they write. One row per (feature, hook point written).
--
-- A crosscoder's direction holds one part for each of its hook points, side by side; an SAE's or a
-- transcoder's is one part. Restrict it by feature_id.
-- site: hook point, `model/layer-hook`
-- space: the one that this part lives in (see sae_spaces), where it compares with SAEs' decoders
-- norm: length of the part, in the SAE's scaled units
-- share: norm / spread as a share of its sum over the feature's hook points, each spread being the
-- root mean square distance of the activations there from their mean (1 where it was not measured):
-- of two hook points, the relative norm of Lindsey et al. (2024, "Sparse Crosscoders for Cross-Layer
-- Features and Model Diffing"), who scale activations alike before training; 0 or 1 for a feature
-- exclusive to one, 1/2 for one that both share alike; null if all parts are zero
--
--     select site, norm, share from site_decoders where feature_id = 12 order by place
create or replace view site_decoders as
with
written as (
    select
        _sites.sae_id,
        list(_sites order by _sites.place) as sites
    from _sites
    where _sites.role = 'output'
    group by _sites.sae_id
),
-- Lists rather than rows until the end, so that no direction waits in a sort or a window.
cut as (
    select
        vectors.feature_id,
        features.sae_id,
        features.index,
        written.sites,
        list_transform(written.sites, lambda s: vectors.decoder[s.first : s.last]) as directions
    from vectors
    join features using (feature_id)
    join written using (sae_id)
),
measured as (
    select
        *,
        list_transform(
            directions, lambda d: sqrt(list_inner_product(d::double[], d::double[]))
        ) as norms
    from cut
),
parts as (
    select
        feature_id,
        sae_id,
        index,
        list_sum(
            list_transform(norms, lambda norm, i: norm / coalesce(sites[i].spread, 1))
        ) as total,
        unnest(sites) as at,
        unnest(directions) as direction,
        unnest(norms) as norm
    from measured
)
select
    saes.name || '/' || parts.index as feature,
    parts.at.place,
    parts.at.site,
    parts.at.layer,
    parts.at.hook,
    parts.at.space,
    parts.norm,
    parts.norm / coalesce(parts.at.spread, 1) / nullif(parts.total, 0) as share,
    parts.direction,
    parts.feature_id
from parts
join saes using (sae_id);
