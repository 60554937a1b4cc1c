-- An SAE's features, and their vectors, are numbered first_feature_id + index, index 0 … d_sae − 1.
select
    saes.sae_id,
    saes.name,
    saes.d_sae,
    counted.n_features,
    counted.n_misnumbered,
    counted.n_vectors
from saes
left join (
    select
        features.sae_id,
        count(distinct features.feature_id) as n_features,
        count(*) - count(distinct features.feature_id) as n_repeated,
        count(*) filter (
            features.feature_id is distinct from owner.first_feature_id + features.index
            or features.index not between 0 and owner.d_sae - 1
        ) as n_misnumbered,
        count(vectors.feature_id) as n_vectors
    from features
    join saes as owner using (sae_id)
    left join vectors using (feature_id)
    group by features.sae_id
) as counted using (sae_id)
where saes.d_sae is distinct from counted.n_features
or saes.d_sae is distinct from counted.n_vectors
or counted.n_repeated != 0
or counted.n_misnumbered != 0
