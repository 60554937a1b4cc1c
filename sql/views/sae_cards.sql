-- SAEs with their quality on the reference corpus. One row per SAE.
--
-- The metrics are the main ones; sae_metrics has all of them, and the view metrics says what each
-- means (`from metrics`, or `atlas info ATLAS SAE`).
-- architecture: what it was trained as; activation: how it is computed
-- k: for 'topk' and 'switch' how many features are active at most, else what training aimed at
-- reads, writes: its hook points, LAYER-HOOK; the same for all but transcoders
-- quality: of an imported SAE 'conforms' (to what its publisher declares), 'undeclared', or a
-- sentence on what deviates; null for one that was trained here
-- held_out: true if training never saw the reference documents
--
--     select sae, l0, explained_variance, ce_recovered from sae_cards order by sae_id
create or replace view sae_cards as
select
    saes.name as sae,
    models.name as model,
    saes.layer,
    saes.hook,
    saes.variant,
    saes.architecture,
    saes.activation,
    placed.reads,
    placed.writes,
    saes.d_in,
    saes.d_sae,
    saes.d_out,
    saes.k,
    ---------- quality
    measured.l0,
    measured.dead_share,
    measured.dense_share,
    measured.explained_variance,
    measured.ce,
    measured.ce_spliced,
    measured.ce_zero,
    measured.ce_recovered,
    measured.kl,
    measured.ce_tokens,
    measured.decoder_max_cosine,
    measured.sparse_probing_k1,
    measured.absorption_full,
    saes.quality,
    ---------- provenance
    saes.train_tokens,
    saes.held_out,
    saes.context,
    saes.source,
    saes.sae_id,
    saes.first_feature_id
from saes
join models on models.model_id = saes.model_id
left join (
    select
        sites.sae_id,
        list(sites.point order by sites.place) filter (sites.role = 'input') as reads,
        list(sites.point order by sites.place) filter (sites.role = 'output') as writes
    from (
        select
            sae_sites.sae_id,
            sae_sites.role,
            sae_sites.place,
            if(sae_sites.model_id = saes.model_id, '', models.name || '/')
            || sae_sites.layer || '-' || sae_sites.hook as point
        from sae_sites
        join saes on saes.sae_id = sae_sites.sae_id
        join models on models.model_id = sae_sites.model_id
    ) as sites
    group by sites.sae_id
) as placed on placed.sae_id = saes.sae_id
left join (
    select
        sae_id,
        max(value) filter (metric = 'l0') as l0,
        max(value) filter (metric = 'dead_share') as dead_share,
        max(value) filter (metric = 'dense_share') as dense_share,
        max(value) filter (metric = 'explained_variance') as explained_variance,
        max(value) filter (metric = 'ce') as ce,
        max(value) filter (metric = 'ce_spliced') as ce_spliced,
        max(value) filter (metric = 'ce_zero') as ce_zero,
        max(value) filter (metric = 'ce_recovered') as ce_recovered,
        max(value) filter (metric = 'kl') as kl,
        max(value) filter (metric = 'ce_tokens')::bigint as ce_tokens,
        max(value) filter (metric = 'decoder_max_cosine') as decoder_max_cosine,
        max(value) filter (metric = 'sparse_probing_k1') as sparse_probing_k1,
        max(value) filter (metric = 'absorption_full') as absorption_full
    from sae_metrics
    group by sae_id
) as measured on measured.sae_id = saes.sae_id;
