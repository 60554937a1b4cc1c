-- Every id and every name is given once.
select
    kind,
    key,
    count(*) as times
from (
    select 'run' as kind, run_id::varchar as key from runs
    union all
    select 'corpus', corpus_id::varchar from corpora
    union all
    select 'document', document_id::varchar from documents
    union all
    select 'tokenizer', tokenizer_id::varchar from tokenizers
    union all
    select 'tokenizer sha256', sha256 from tokenizers
    union all
    select 'model', model_id::varchar from models
    union all
    select 'model name', name from models
    union all
    select 'sae', sae_id::varchar from saes
    union all
    select 'sae name', name from saes
    union all
    select 'pairing', pairing_id::varchar from pairings
    union all
    select 'meta key', meta.key from meta
)
group by kind, key
having count(*) > 1
