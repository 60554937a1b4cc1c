-- A feature's sums over tokens are those of its activations, and density and alive follow.
select
    features.feature_id,
    features.n_active,
    summed.n_active as n_active_found,
    features.sum_q,
    summed.sum_q as sum_q_found,
    features.max_q,
    summed.max_q as max_q_found,
    features.density
from features
left join saes using (sae_id)
left join models using (model_id)
left join tokenizers using (tokenizer_id)
left join (
    select
        feature_id,
        count(*) as n_active,
        sum(q) as sum_q,
        sum(q::hugeint * q) as sum_q2,
        max(q) as max_q
    from activations
    group by feature_id
) as summed using (feature_id)
where features.n_active is distinct from coalesce(summed.n_active, 0)
or features.sum_q is distinct from coalesce(summed.sum_q, 0)
or features.sum_q2 is distinct from coalesce(summed.sum_q2, 0)
or features.max_q is distinct from coalesce(summed.max_q, 0)
or features.alive is distinct from (features.n_active > 0)
or (abs(features.density * tokenizers.n_tokens - features.n_active) < 1e-3) is distinct from true
