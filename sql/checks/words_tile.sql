-- Every character of every document lies in exactly one word, and words are numbered in order.
select
    documents.document_id,
    words.word,
    words.start_char,
    words.end_char
from documents
full join (
    select
        word,
        document_id,
        start_char,
        end_char,
        lag(word) over (order by word) as word_before,
        lag(document_id) over (order by word) as document_before,
        lag(end_char, 1, 0) over (partition by document_id order by word) as expected_start,
        lead(word) over (partition by document_id order by word) is null as is_last
    from words
) as words using (document_id)
where if(len(documents.text) = 0, words.word is not null, words.word is null)
or words.word != coalesce(words.word_before + 1, 0)
or words.document_id < words.document_before
or words.start_char != words.expected_start
or words.end_char <= words.start_char
or (words.is_last and words.end_char != len(documents.text))
