-- No two SAEs claim the same feature ids.
select
    a.name as sae_a,
    b.name as sae_b,
    greatest(a.first_feature_id, b.first_feature_id) as first_shared
from saes as a
join saes as b
    on a.sae_id < b.sae_id
    and a.first_feature_id < b.first_feature_id + b.d_sae
    and b.first_feature_id < a.first_feature_id + a.d_sae
