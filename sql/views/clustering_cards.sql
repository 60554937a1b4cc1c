-- Partitions of layered graphs of features into communities. One row per clustering.
--
-- What `atlas communities` found: nodes are the features of all SAEs of one model, hook and variant;
-- an edge leads to a feature of the next layer where their measure is at least at_least, and weighs
-- as much. A feature without such an edge takes no part.
-- method: 'leiden_modularity', 'leiden_cpm' (constant Potts model), 'louvain' (modularity of directed
-- graphs) or 'components' (connected at all)
-- resolution: the higher, the smaller the communities; null for components
-- n_features: features that take part; clustered: as a share of the live ones
-- largest: features of the largest community; alone: features that are a community each
-- quality: what the method makes large; comparable between clusterings of one method, graph and
-- resolution alone
-- stability: mean adjusted mutual information with the same method under other seeds; 1 if they give
-- the same communities, 0 if no more alike than chance; null where nothing is random
--
--     select method, resolution, at_least, n_communities, largest, stability from clustering_cards
create or replace view clustering_cards as
select
    clusterings.clustering_id,
    models.name as model,
    clusterings.hook,
    clusterings.variant,
    clusterings.method,
    clusterings.n_communities,
    sizes.n_features,
    sizes.largest,
    clusterings.stability,
    clusterings.quality,
    clusterings.resolution,
    clusterings.measure,
    clusterings.at_least,
    clusterings.seed,
    sizes.n_features / nullif(live.n_alive, 0) as clustered,
    sizes.alone,
    runs.ended_at as clustered_at
from clusterings
join models on models.model_id = clusterings.model_id
left join runs on runs.run_id = clusterings.run_id
left join (
    select
        clustering_id,
        sum(n_features)::bigint as n_features,
        max(n_features) as largest,
        count(*) filter (n_features = 1) as alone
    from community_labels
    group by clustering_id
) as sizes on sizes.clustering_id = clusterings.clustering_id
left join (
    select
        saes.model_id,
        saes.hook,
        saes.variant,
        count(*) as n_alive
    from features
    join saes on saes.sae_id = features.sae_id
    where features.alive
    group by all
) as live
    on live.model_id = clusterings.model_id
    and live.hook = clusterings.hook
    and live.variant is not distinct from clusterings.variant;
