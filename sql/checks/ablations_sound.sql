-- An ablation is of two features of one model, the ablated one in an earlier layer, and adds up.
select
    ablations.run_id,
    ablations.feature_a,
    ablations.feature_b
from ablations
left join features as a on a.feature_id = ablations.feature_a
left join features as b on b.feature_id = ablations.feature_b
left join saes as sae_a on sae_a.sae_id = a.sae_id
left join saes as sae_b on sae_b.sae_id = b.sae_id
left join runs on runs.run_id = ablations.run_id
where (sae_a.model_id = sae_b.model_id and sae_a.layer < sae_b.layer) is distinct from true
or runs.status is distinct from 'done'
or (ablations.n_tokens >= 0) is distinct from true
or if(
    ablations.n_tokens = 0,
    coalesce(ablations.mean_before, ablations.mean_after, ablations.effect) is not null,
    (
        ablations.mean_before > 0
        and ablations.mean_after >= 0
        and isfinite(ablations.mean_after)
        and abs(ablations.effect - (ablations.mean_before - ablations.mean_after))
        <= 1e-9 * (ablations.mean_before + ablations.mean_after)
    ) is distinct from true
)
union all
select
    run_id,
    feature_a,
    feature_b
from ablations
group by run_id, feature_a, feature_b
having count(*) > 1
