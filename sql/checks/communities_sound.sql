-- A clustering's communities are of its own SAEs' features, no feature in two, the largest first.
with
counted as (
    select
        clustering_id,
        community,
        count(*) as n_features
    from communities
    group by all
),
labelled as (
    select
        clustering_id,
        community,
        n_features,
        row_number() over (partition by clustering_id order by community) - 1 as place,
        lag(n_features) over (partition by clustering_id order by community) as n_before
    from community_labels
)
select
    coalesce(labelled.clustering_id, counted.clustering_id) as clustering_id,
    coalesce(labelled.community, counted.community) as community,
    null as feature_id
from labelled
full join counted
    on counted.clustering_id = labelled.clustering_id and counted.community = labelled.community
where counted.n_features is distinct from labelled.n_features
or labelled.place != labelled.community
or labelled.n_before < labelled.n_features
union all
select
    communities.clustering_id,
    communities.community,
    communities.feature_id
from communities
left join clusterings on clusterings.clustering_id = communities.clustering_id
left join features on features.feature_id = communities.feature_id
left join saes
    on saes.sae_id = features.sae_id
    and saes.model_id = clusterings.model_id
    and saes.hook = clusterings.hook
    and saes.variant is not distinct from clusterings.variant
where saes.sae_id is null
union all
select
    clustering_id,
    any_value(community),
    feature_id
from communities
group by clustering_id, feature_id
having count(*) > 1
