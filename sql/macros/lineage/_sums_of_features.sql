-- What measures need of one feature, as doubles, over tokens. One row per feature.
--
-- strong: whether active is what exceeds a fifth of the maximum; then of SAEs of links alone
create or replace macro _sums_of_features(strong) as table
select
    features.feature_id,
    features.n_active::double as n_active,
    features.sum_q2::double as sum_q2
from features
where not strong
union all
select
    features.feature_id,
    strong_activity.n_strong::double as n_active,
    features.sum_q2::double as sum_q2
from features
join strong_activity on strong_activity.feature_id = features.feature_id
where strong
and strong_activity.over = 'tokens';
