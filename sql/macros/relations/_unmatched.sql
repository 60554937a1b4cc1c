-- Features that none of a neighbouring layer has the measure with. One row per feature.
--
-- other: the feature there with the highest measure, which is value; both null if no pair is stored
--
-- at_least … dead: as in disappearing()
-- down: true for the layer behind, false for the one before
create or replace macro _unmatched(at_least, measure, strong, dead, down) as table
with
best as (
    select
        if(down, feature_id, next_id) as id,
        -- Of equals the first.
        max(
            {
                'value': edge,
                'before': -if(down, next_id, feature_id)
            }
        ) as via
    from _layer_edges(_known_measure(measure), strong)
    group by id
)
select
    own.name || '/' || features.index as feature,
    others.name || '/' || (-best.via.before - others.first_feature_id) as other,
    best.via.value as value,
    features.n_active,
    features.n_active >= chained.min_joint as tested,
    own.name as sae,
    others.name as other_sae,
    own.layer,
    others.layer as other_layer,
    features.feature_id,
    -best.via.before as other_id
from _layer_links as chained
join saes as own on own.sae_id = if(down, chained.sae_id, chained.next_sae_id)
join saes as others on others.sae_id = if(down, chained.next_sae_id, chained.sae_id)
join features on features.sae_id = own.sae_id
left join best on best.id = features.feature_id
where chained.link_id is not null
and (features.alive or dead)
and (best.via.value >= at_least) is distinct from true;
