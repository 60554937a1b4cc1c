-- Every row that names its run names one that is there and done.
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
) as made
left join runs on runs.run_id = made.run_id
where runs.status is distinct from 'done'
