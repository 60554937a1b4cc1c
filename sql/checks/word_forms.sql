-- A word's form is its text without the white space that ends it.
select
    words.word,
    words.form,
    documents.text[words.start_char + 1 : words.end_char] as text
from words
join documents using (document_id)
where not starts_with(documents.text[words.start_char + 1 : words.end_char], words.form)
or not regexp_full_match(
    documents.text[words.start_char + len(words.form) + 1 : words.end_char],
    '[\s\x{0b}\x{85}\p{Z}]*'
)
or regexp_matches(words.form, '[\s\x{0b}\x{85}\p{Z}]$')
or words.form is null
