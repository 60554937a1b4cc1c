-- Activations to read: in real units, with the token's text and place. One row per (feature, token) with one.
--
-- Restrict it by feature_id, which the rows are clustered by, or by document_id.
--
--     from firings where feature_id = 12 order by activation desc limit 5
--     select feature_id, max(activation) from firings where document_id = 3 group by all order by 2 desc limit 5
create or replace view firings as
select
    activations.feature_id,
    activations.token,
    activations.q * saes.scale as activation,
    -- A piece of a character (byte-level tokenizers) spans the whole of it.
    documents.text[tokens.start_char + 1 : tokens.end_char] as text,
    words.form,
    tokens.document_id,
    tokens.position,
    if(tokens.document_id % 2 = 0, 'explain', 'score') as split
from activations
join features using (feature_id)
join saes using (sae_id)
join tokens using (token)
join words using (word)
join documents on documents.document_id = tokens.document_id;
