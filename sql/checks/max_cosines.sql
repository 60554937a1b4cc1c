-- The largest cosine of a decoder direction to another one of the SAE is that, in some features of each.
--
-- Of every SAE four features are compared with all others: the first, the last, and two between.
with
directions as (
    select
        features.sae_id,
        features.feature_id,
        features.index,
        vectors.max_cosine,
        vectors.decoder::double[] as direction,
        sqrt(list_inner_product(direction, direction)) as length
    from features
    join vectors on vectors.feature_id = features.feature_id
),
picked as (
    select directions.*
    from directions
    join saes on saes.sae_id = directions.sae_id
    where directions.index in (0, saes.d_sae // 3, 2 * saes.d_sae // 3, saes.d_sae - 1)
)
select
    picked.feature_id,
    any_value(picked.max_cosine) as max_cosine,
    max(
        list_inner_product(picked.direction, other.direction) / nullif(picked.length * other.length, 0)
    ) as expected
from picked
join directions as other
    on other.sae_id = picked.sae_id and other.feature_id != picked.feature_id
where picked.max_cosine is not null
group by picked.feature_id
having (abs(expected - any_value(picked.max_cosine)) < 1e-5) is distinct from true
