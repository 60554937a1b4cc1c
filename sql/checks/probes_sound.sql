-- Probes use features of their SAE, each once and k at most, and score between 0 and 1.
select
    probes.sae_id,
    probes.property,
    probes.k,
    probes.features
from probes
left join saes on saes.sae_id = probes.sae_id
where saes.sae_id is null
or (len(probes.features) between 0 and probes.k) is distinct from true
or len(list_distinct(probes.features)) != len(probes.features)
or coalesce(list_min(probes.features), 0) < 0
or coalesce(list_max(probes.features), 0) >= saes.d_sae
or (probes.n_positive between 1 and probes.n_tokens - 1) is distinct from true
or (probes.balanced_accuracy between 0 and 1) is distinct from true
or (probes.f1 between 0 and 1) is distinct from true
or (probes.auc between 0 and 1) is distinct from true
or (
    select count(*)
    from probes as same
    where same.sae_id = probes.sae_id and same.property = probes.property and same.k = probes.k
) > 1
