-- An example is an activation of its feature, shown in a window of the same document.
select
    examples.feature_id,
    examples.rank,
    examples.token,
    examples.q
from examples
left join activations
    on activations.feature_id = examples.feature_id and activations.token = examples.token
left join tokens as peak on peak.token = examples.token
left join tokens as first on first.token = examples.first_token
left join tokens as last on last.token = examples.last_token
where activations.q is distinct from examples.q
or (examples.token between examples.first_token and examples.last_token) is distinct from true
or first.document_id is distinct from peak.document_id
or last.document_id is distinct from peak.document_id
