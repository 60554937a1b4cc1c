-- Examples that explain and examples that score never share a document: even ones explain.
select
    examples.feature_id,
    examples.rank,
    examples.split,
    tokens.document_id
from examples
left join tokens using (token)
where examples.split is distinct from if(tokens.document_id % 2 = 0, 'explain', 'score')
