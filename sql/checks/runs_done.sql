-- Every row that names its run names one that is there and done; comparing keeps parts before it is.
select
    made.what,
    made.run_id,
    runs.status
from (
    select distinct 'corpora' as what, run_id from corpora
    union all
    select distinct 'tokenizers', run_id from tokenizers
    union all
    select distinct 'models', run_id from models
    union all
    select distinct 'saes', run_id from saes
    union all
    select distinct 'sae_metrics', run_id from sae_metrics
    union all
    select distinct 'labels', run_id from labels
    union all
    select distinct 'pairings', run_id from pairings
    union all
    select distinct 'comparisons', run_id from comparisons
) as made
left join runs on runs.run_id = made.run_id
where (
    runs.status = 'done'
    or (runs.status = 'begun' and made.what in ('pairings', 'comparisons'))
) is distinct from true
