-- Communities of features over layers, with what their members have in common. One row per community.
--
-- label: the label of at least half of the members; else words on which they fire, and features of
-- other communities do not (see atlas/lineage/community_labels.py)
-- n_layers, first_layer, last_layer: layers that have a member
-- widest: members in the layer that has most of them
-- density: mean share of tokens on which a member fires
-- clustering_id: see clustering_cards, which tells the parameters and how stable the communities are
--
--     select community, label, n_features, first_layer, last_layer from community_cards
--     where method = 'leiden_modularity' order by n_features desc limit 10
create or replace view community_cards as
with
layered as (
    select
        communities.clustering_id,
        communities.community,
        saes.layer,
        count(*) as n_features,
        sum(features.density) as density
    from communities
    join features on features.feature_id = communities.feature_id
    join saes on saes.sae_id = features.sae_id
    group by all
),
spread as (
    select
        clustering_id,
        community,
        count(*) as n_layers,
        min(layer) as first_layer,
        max(layer) as last_layer,
        max(n_features) as widest,
        sum(density) / sum(n_features) as density
    from layered
    group by all
)
select
    models.name as model,
    clusterings.hook,
    clusterings.variant,
    clusterings.method,
    clusterings.resolution,
    clusterings.measure,
    clusterings.at_least,
    community_labels.community,
    community_labels.label,
    community_labels.n_features,
    spread.n_layers,
    spread.first_layer,
    spread.last_layer,
    spread.widest,
    spread.density,
    clusterings.stability,
    community_labels.clustering_id
from community_labels
join clusterings on clusterings.clustering_id = community_labels.clustering_id
join models on models.model_id = clusterings.model_id
join spread
    on spread.clustering_id = community_labels.clustering_id
    and spread.community = community_labels.community;
