-- Stored pairs are of their link's SAEs, once each and in order, and their sums are possible.
--
-- A firing counts at least 1 in q, and Σ q_a·q_b is at most √(Σq_a²·Σq_b²) (Cauchy and Schwarz).
with
numbered as (
    select
        link_id,
        feature_a,
        feature_b,
        lag(link_id) over (order by rowid) as link_before,
        lag(feature_a) over (order by rowid) as a_before,
        lag(feature_b) over (order by rowid) as b_before
    from coactivations
),
disordered as (
    select
        link_id,
        feature_a,
        feature_b
    from numbered
    where link_before is not null  -- of the first row
    and (link_before, a_before, b_before) >= (link_id, feature_a, feature_b)
),
impossible as (
    select
        coactivations.link_id,
        coactivations.feature_a,
        coactivations.feature_b
    from coactivations
    left join links on links.link_id = coactivations.link_id
    left join features as a
        on a.feature_id = coactivations.feature_a and a.sae_id = links.sae_a
    left join features as b
        on b.feature_id = coactivations.feature_b and b.sae_id = links.sae_b
    left join strong_activity as strong_a
        on strong_a.feature_id = coactivations.feature_a and strong_a.over = links.over
    left join strong_activity as strong_b
        on strong_b.feature_id = coactivations.feature_b and strong_b.over = links.over
    where (
        coactivations.n_both between links.min_joint and least(
            if(links.over = 'tokens', a.n_active, a.word_n_active),
            if(links.over = 'tokens', b.n_active, b.word_n_active)
        )
    ) is distinct from true
    or (
        coactivations.n_both_strong between 0 and least(
            coactivations.n_both, strong_a.n_strong, strong_b.n_strong
        )
    ) is distinct from true
    or (
        coactivations.sum_ab >= coactivations.n_both
        and coactivations.sum_ab::double <= 1.000000001 * sqrt(
            if(links.over = 'tokens', a.sum_q2, a.word_sum_q2)::double
            * if(links.over = 'tokens', b.sum_q2, b.word_sum_q2)::double
        )
    ) is distinct from true
)
from disordered
union all
from impossible
