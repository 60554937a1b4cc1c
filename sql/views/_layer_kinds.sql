-- Hooks and variants of the SAEs that a model has, as arguments of a macro. One row per model.
create or replace view _layer_kinds as
select
    model_id,
    list(_hook_and_variant(hook, variant) order by hook, variant nulls first) as kinds
from (
    select distinct
        model_id,
        hook,
        variant
    from saes
)
group by model_id;
