-- Metrics are finite, given once, and l0 and dead_share are those of the features.
select
    sae_metrics.sae_id,
    sae_metrics.metric,
    sae_metrics.value,
    counted.expected
from sae_metrics
left join (
    select
        features.sae_id,
        unnest(['l0', 'dead_share']) as metric,
        unnest([
            sum(features.n_active) / any_value(tokenizers.n_tokens),
            avg(if(features.alive, 0, 1))
        ]) as expected
    from features
    join saes using (sae_id)
    join models using (model_id)
    join tokenizers using (tokenizer_id)
    group by features.sae_id
) as counted using (sae_id, metric)
where sae_metrics.value is null
or not isfinite(sae_metrics.value)
or abs(sae_metrics.value - counted.expected) > 1e-9 * greatest(1, counted.expected)
or (
    select count(*)
    from sae_metrics as same
    where same.sae_id = sae_metrics.sae_id and same.metric = sae_metrics.metric
) > 1
