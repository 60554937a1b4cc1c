-- Metrics are known, finite, given once, in their range, and those that rows of the atlas decide are right.
with
positions as (
    select
        saes.sae_id,
        tokenizers.n_tokens,
        coalesce(measured.value, tokenizers.n_tokens) as n
    from saes
    join models on models.model_id = saes.model_id
    join tokenizers on tokenizers.tokenizer_id = models.tokenizer_id
    left join sae_metrics as measured
        on measured.sae_id = saes.sae_id and measured.metric = 'tokens'
)
select
    sae_metrics.sae_id,
    sae_metrics.metric,
    sae_metrics.value,
    sae_metrics.version,
    counted.expected
from sae_metrics
left join metrics on metrics.metric = sae_metrics.metric
left join (
    select
        features.sae_id,
        unnest(['l0', 'dead_share', 'dense_share']) as metric,
        unnest([
            sum(features.n_active) / any_value(positions.n),
            avg(if(features.alive, 0, 1)),
            avg(if(features.n_active / positions.n > 0.1, 1, 0))
        ]) as expected
    from features
    join positions on positions.sae_id = features.sae_id
    group by features.sae_id
    union all
    -- All tokens, unless several models meet on some.
    select
        positions.sae_id,
        'tokens' as metric,
        if(
            count(distinct sae_sites.model_id) > 1,
            least(positions.n, positions.n_tokens),
            positions.n_tokens
        ) as expected
    from positions
    join sae_sites on sae_sites.sae_id = positions.sae_id
    group by positions.sae_id, positions.n, positions.n_tokens
    union all
    select
        features.sae_id,
        unnest(['decoder_max_cosine', 'decoder_near_share']) as metric,
        unnest([
            avg(vectors.max_cosine::double),
            avg(if(vectors.max_cosine > 0.7::float, 1, 0))
        ]) as expected
    from features
    join vectors on vectors.feature_id = features.feature_id
    where vectors.max_cosine is not null
    group by features.sae_id
    union all
    select
        sae_id,
        'sparse_probing_k' || k as metric,
        avg(balanced_accuracy) as expected
    from probes
    group by sae_id, k
    union all
    select
        sae_id,
        unnest([
            'absorption_full', 'absorption_fraction', 'absorption_splits', 'absorption_main_f1',
            'absorption_letters'
        ]) as metric,
        unnest([avg(full_share), avg(fraction), avg(len(main)), avg(main_f1), count(*)]) as expected
    from absorptions
    group by sae_id
    union all
    select
        sae_id,
        unnest(['fvu', 'ce_recovered']) as metric,
        unnest([1 - explained_variance, (ce_zero - ce_spliced) / (ce_zero - ce)]) as expected
    from (pivot sae_metrics on metric in (explained_variance, ce, ce_spliced, ce_zero) using max(value) group by sae_id)
) as counted on counted.sae_id = sae_metrics.sae_id and counted.metric = sae_metrics.metric
where metrics.metric is null
or (sae_metrics.version between 1 and metrics.version) is distinct from true
or sae_metrics.value is null
or not isfinite(sae_metrics.value)
or abs(sae_metrics.value - counted.expected) > 1e-9 * greatest(1, abs(counted.expected))
or (sae_metrics.metric like '%share' and sae_metrics.value not between 0 and 1)
or (sae_metrics.metric like '%cosine' and sae_metrics.value not between -1.000001 and 1.000001)
or (sae_metrics.metric like 'explained_variance%' and sae_metrics.value > 1)
or (sae_metrics.metric in ('mse', 'l2_ratio', 'ce', 'ce_spliced', 'ce_zero') and sae_metrics.value < 0)
or (sae_metrics.metric = 'kl' and sae_metrics.value < -1e-4)
or (
    select count(*)
    from sae_metrics as same
    where same.sae_id = sae_metrics.sae_id and same.metric = sae_metrics.metric
) > 1
