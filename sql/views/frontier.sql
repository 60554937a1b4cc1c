-- Which SAEs of a hook point are the best for their L0, by each metric. One row per (SAE, metric).
--
-- SAEs are compared where they write the same hook points of the same model and were measured in
-- contexts of the same length; metrics are those that have a better direction.
-- best: true where no other one has both an L0 that is as small and a value that is as good, one of
-- them strictly so: it lies on the frontier
-- better: 'higher' or 'lower'
--
--     select sae, l0, value from frontier where metric = 'ce_spliced' and best order by writes, l0
create or replace view frontier as
with
measured as (
    select
        sae_cards.sae,
        sae_cards.model,
        array_to_string(sae_cards.writes, ' + ') as writes,
        sae_cards.architecture,
        sae_cards.d_sae,
        sae_cards.l0,
        metrics.metric,
        sae_metrics.value,
        metrics.better,
        if(metrics.better = 'lower', sae_metrics.value, -sae_metrics.value) as loss,
        sae_cards.context,
        sae_cards.sae_id
    from sae_cards
    join sae_metrics on sae_metrics.sae_id = sae_cards.sae_id
    join metrics on metrics.metric = sae_metrics.metric
    where metrics.better != 'neither' and metrics.topic != 'sparsity'
)
select
    measured.* exclude (loss),
    not exists (
        select 1
        from measured as other
        where other.model = measured.model
        and other.writes = measured.writes
        and other.context = measured.context
        and other.metric = measured.metric
        and other.l0 <= measured.l0
        and other.loss <= measured.loss
        and (other.l0 < measured.l0 or other.loss < measured.loss)
    ) as best
from measured;
