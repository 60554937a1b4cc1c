-- A token's span lies in its document, and its word is the one that holds its last character.
select
    tokens.token,
    tokens.start_char,
    tokens.end_char,
    tokens.word
from tokens
join documents using (document_id)
left join words using (word)
where tokens.start_char < 0
or tokens.end_char < tokens.start_char
or tokens.end_char > len(documents.text)
or words.document_id is distinct from tokens.document_id
-- A token of no characters belongs to the word of the character before it.
or (greatest(tokens.end_char - 1, 0) between words.start_char and words.end_char - 1)
    is distinct from true
