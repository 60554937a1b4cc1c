-- How far the measures of edges tell the effect of ablating them. One row per (model, measure).
--
-- Spearman's rank correlations over the ablated edges; ties have their mean rank. The edges were
-- drawn evenly over the range of one measure (`atlas lineage --causal`), which these depend on.
-- n_edges: edges that have the measure
-- effect, share: correlation of the measure with that column of ablation_cards
--
--     from ablation_agreement order by share desc
create or replace view ablation_agreement as
with ranked as (
    select
        model,
        measure,
        rank() over (partition by model, measure order by value)
        + (count(*) over (partition by model, measure, value) - 1) / 2 as of_value,
        rank() over (partition by model, measure order by effect)
        + (count(*) over (partition by model, measure, effect) - 1) / 2 as of_effect,
        rank() over (partition by model, measure order by share)
        + (count(*) over (partition by model, measure, share) - 1) / 2 as of_share
    from _ablation_measures
)
select
    model,
    measure,
    count(*) as n_edges,
    corr(of_value, of_effect) as effect,
    corr(of_value, of_share) as share
from ranked
group by model, measure;
