-- token_stats counts and sums the feature's activations on each token id.
select
    token_stats.feature_id,
    token_stats.token_id,
    token_stats.n_active,
    summed.n_active as n_active_found
from token_stats
left join (
    select
        activations.feature_id,
        tokens.token_id,
        count(*) as n_active,
        sum(activations.q) as sum_q,
        max(activations.q) as max_q
    from activations
    join tokens using (token)
    group by activations.feature_id, tokens.token_id
) as summed using (feature_id, token_id)
where token_stats.n_active is distinct from summed.n_active
or token_stats.sum_q is distinct from summed.sum_q
or token_stats.max_q is distinct from summed.max_q
