-- A feature's quantiles are its lower order statistics: number floor(p·(n − 1)), counted from 0.
select
    features.feature_id,
    features.quantiles_q,
    sorted.expected
from features
left join (
    select
        feature_id,
        list_transform(
            -- In thousandths, so that no rounding of p can move the number.
            [100, 250, 500, 750, 900, 990],
            lambda p: list_sort(list(q))[(count(*) - 1) * p // 1000 + 1]
        ) as expected
    from activations
    group by feature_id
) as sorted using (feature_id)
where features.quantiles_q is distinct from coalesce(sorted.expected, [])
