-- A clustering has known settings, layers to be of, values in range, and counts its communities.
with counted as (
    select
        clustering_id,
        count(*) as n_communities
    from community_labels
    group by clustering_id
)
select
    clusterings.clustering_id,
    clusterings.method,
    clusterings.n_communities,
    counted.n_communities as n_labelled
from clusterings
left join counted on counted.clustering_id = clusterings.clustering_id
left join runs on runs.run_id = clusterings.run_id
where clusterings.n_communities is distinct from counted.n_communities
or runs.status is distinct from 'done'
or (
    clusterings.method in ('leiden_modularity', 'leiden_cpm', 'louvain', 'components')
) is distinct from true
or (
    clusterings.measure in (
        'pearson', 'jaccard', 'sufficiency', 'necessity', 'mutual_information', 'activation_cosine'
    )
) is distinct from true
or (clusterings.at_least >= 0) is distinct from true
or if(
    clusterings.method = 'components',
    coalesce(
        clusterings.resolution, clusterings.quality, clusterings.stability, clusterings.seed
    ) is not null,
    (clusterings.resolution > 0 and clusterings.quality <= 1 and clusterings.seed >= 0)
    is distinct from true
    or clusterings.stability not between -1 and 1 + 1e-9
)
or (
    select count(distinct saes.layer)
    from saes
    where saes.model_id = clusterings.model_id
    and saes.hook = clusterings.hook
    and saes.variant is not distinct from clusterings.variant
) < 2
or (
    select count(*)
    from clusterings as same
    where same.clustering_id = clusterings.clustering_id
    or (
        same.model_id = clusterings.model_id
        and same.hook = clusterings.hook
        and same.variant is not distinct from clusterings.variant
        and same.method = clusterings.method
        and same.resolution is not distinct from clusterings.resolution
        and same.measure = clusterings.measure
        and same.at_least = clusterings.at_least
        and same.seed is not distinct from clusterings.seed
    )
) > 1
