-- A feature's sums over words are those of its largest activations on each word.
select
    features.feature_id,
    features.word_n_active,
    summed.n_active as word_n_active_found,
    features.word_sum_q,
    summed.sum_q as word_sum_q_found,
    features.word_sum_q2,
    summed.sum_q2 as word_sum_q2_found
from features
left join (
    select
        feature_id,
        count(*) as n_active,
        sum(q) as sum_q,
        sum(q::hugeint * q) as sum_q2
    from word_activations
    group by feature_id
) as summed using (feature_id)
where features.word_n_active is distinct from coalesce(summed.n_active, 0)
or features.word_sum_q is distinct from coalesce(summed.sum_q, 0)
or features.word_sum_q2 is distinct from coalesce(summed.sum_q2, 0)
