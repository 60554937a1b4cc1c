-- Features with counterparts in other models, and whether these agree with each other. One row per feature.
--
-- universal(at_least := 2) with its other defaults: pairs count with q <= 0.05. A feature without a
-- counterpart in another model has no row.
-- n_models: models with this feature, its own included, of the n_compared that could have had it
-- consistent: true if its counterparts in different models are all each other's counterparts too;
-- null if that is not known: n_checked of n_links such pairs could be checked, n_agreed agree
-- counterparts: of each other model the best one, by falling r
-- weakest_r, weakest_r_held_out, weakest_q: of the pairs with these
--
--     from universal_features where n_models >= 3 and consistent order by weakest_r desc limit 5
--
--     select sae, count(*) as features, avg(n_models / n_compared) as spread, count(*) filter (consistent) as consistent
--     from universal_features group by sae order by sae
create or replace view universal_features as
from universal(at_least := 2);
