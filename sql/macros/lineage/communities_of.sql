-- Communities that a feature is in. One row per clustering that it takes part in.
--
-- Columns are those of community_cards; members are told by community_members.
--
-- feature: name or id
--
--     from communities_of('stdlib-a/1-resid_post/12')
create or replace macro communities_of(feature) as table
select community_cards.*
from communities
join community_cards
    on community_cards.clustering_id = communities.clustering_id
    and community_cards.community = communities.community
where communities.feature_id = (select feature_id(feature))
order by community_cards.clustering_id;
