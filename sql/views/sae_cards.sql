-- SAEs with their quality on the reference corpus. One row per SAE.
--
-- Sums run over all tokens of the reference corpus unless stated; x is the model's activation at
-- the hook point, x̂ the SAE's reconstruction, both in the model's own units.
--
-- l0: mean number of features active on a token
-- dead_share: share of features active on no token
-- explained_variance: 1 − Σ‖x − x̂‖² / Σ‖x − x̄‖², x̄ the mean of x over the same tokens
-- ce: the model's mean next-token cross entropy in nats, BOS and padding not counted; null for a
-- model that is not causal
-- ce_spliced: the same with x̂ in the place of x
-- ce_zero: the same with zeros in the place of x (as above, BOS is left as the model makes it)
-- ce_recovered: (ce_zero − ce_spliced) / (ce_zero − ce): 1 is perfect; null where zeros do no harm
-- ce_tokens: how many predictions the four above average, in contexts spread over the corpus
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
    saes.d_in,
    saes.d_sae,
    saes.k,
    ---------- quality
    measured.l0,
    measured.dead_share,
    measured.explained_variance,
    measured.ce,
    measured.ce_spliced,
    measured.ce_zero,
    measured.ce_recovered,
    measured.ce_tokens,
    ---------- provenance
    saes.train_tokens,
    saes.held_out,
    saes.context,
    saes.source,
    saes.sae_id,
    saes.first_feature_id
from saes
join models using (model_id)
left join (
    select
        sae_id,
        max(value) filter (metric = 'l0') as l0,
        max(value) filter (metric = 'dead_share') as dead_share,
        max(value) filter (metric = 'explained_variance') as explained_variance,
        max(value) filter (metric = 'ce') as ce,
        max(value) filter (metric = 'ce_spliced') as ce_spliced,
        max(value) filter (metric = 'ce_zero') as ce_zero,
        max(value) filter (metric = 'ce_recovered') as ce_recovered,
        max(value) filter (metric = 'ce_tokens')::bigint as ce_tokens
    from sae_metrics
    group by sae_id
) as measured using (sae_id);
