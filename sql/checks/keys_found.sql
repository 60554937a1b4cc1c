-- No row refers to a row that is not there.
select
    'documents.corpus_id' as refers, document_id as row, corpus_id as missing
from documents anti join corpora using (corpus_id)
union all
select 'words.document_id', word, document_id from words anti join documents using (document_id)
union all
select 'tokens.document_id', token, document_id from tokens anti join documents using (document_id)
union all
select 'vocabulary.tokenizer_id', token_id, tokenizer_id
from vocabulary anti join tokenizers using (tokenizer_id)
union all
select 'models.tokenizer_id', model_id, tokenizer_id
from models anti join tokenizers using (tokenizer_id)
union all
select 'saes.model_id', sae_id, model_id from saes anti join models using (model_id)
union all
select 'sae_metrics.sae_id', null, sae_id from sae_metrics anti join saes using (sae_id)
union all
select 'sae_sites.sae_id', null, sae_id from sae_sites anti join saes using (sae_id)
union all
select 'sae_sites.model_id', sae_id, model_id from sae_sites anti join models using (model_id)
union all
select 'sae_tensors.sae_id', null, sae_id from sae_tensors anti join saes using (sae_id)
union all
select 'declared_metrics.sae_id', null, sae_id
from declared_metrics anti join saes using (sae_id)
union all
select 'training_records.sae_id', null, sae_id
from training_records anti join saes using (sae_id)
union all
select 'features.sae_id', feature_id, sae_id from features anti join saes using (sae_id)
union all
select 'vectors.feature_id', null, feature_id from vectors anti join features using (feature_id)
union all
select 'examples.feature_id', null, feature_id from examples anti join features using (feature_id)
union all
select 'token_effects.feature_id', null, feature_id
from token_effects anti join features using (feature_id)
union all
select 'token_stats.feature_id', null, feature_id
from token_stats anti join features using (feature_id)
union all
select 'word_stats.feature_id', null, feature_id
from word_stats anti join features using (feature_id)
union all
select 'labels.feature_id', null, feature_id from labels anti join features using (feature_id)
union all
select 'pairings.sae_a', pairing_id, sae_a
from pairings anti join saes on saes.sae_id = pairings.sae_a
union all
select 'pairings.sae_b', pairing_id, sae_b
from pairings anti join saes on saes.sae_id = pairings.sae_b
union all
select 'feature_pairs.pairing_id', null, pairing_id
from feature_pairs anti join pairings using (pairing_id)
union all
select 'comparisons.pairing_id', null, pairing_id
from comparisons anti join pairings using (pairing_id)
