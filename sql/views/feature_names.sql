-- Names and places of all features. One row per feature.
--
-- The light companion of feature_cards, for joining names to any table that has a feature_id.
--
--     select feature, density from features join feature_names using (feature_id) order by density desc limit 5
create or replace view feature_names as
select
    features.feature_id,
    saes.name || '/' || features.index as feature,
    models.name as model,
    saes.layer,
    saes.hook,
    saes.name as sae,
    features.index,
    features.sae_id
from features
join saes using (sae_id)
join models using (model_id);
