-- Features of one community, layer by layer, those that fire most first. One row each.
--
-- clustering: clustering_id; see clustering_cards
-- number: that of the community; 0 is the largest
--
--     from community_members(0, 0) limit 5
create or replace macro community_members(clustering, number) as table
select
    feature_names.feature,
    saes.layer,
    best_labels.label,
    best_labels.score,
    features.density,
    communities.feature_id
from communities
join features on features.feature_id = communities.feature_id
join saes on saes.sae_id = features.sae_id
join feature_names on feature_names.feature_id = communities.feature_id
left join best_labels on best_labels.feature_id = communities.feature_id
where communities.clustering_id = clustering
and communities.community = number
order by saes.layer, features.density desc, communities.feature_id;
