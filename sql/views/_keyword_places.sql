-- Where the categories' words stand in the corpus. One row per (category, word of the corpus).
--
-- A phrase stands where its words follow each other in a document, and has each of its words.
create or replace view _keyword_places as
with
phrases as (
    select
        category,
        word as phrase,
        string_split(word, ' ') as parts
    from categories
    where contains(word, ' ')
),
first_words as (
    select
        phrases.category,
        phrases.phrase,
        phrases.parts,
        words.document_id,
        words.word as first_word
    from phrases
    join words on _folded(words.form) = phrases.parts[1]
),
places as (
    select
        *,
        generate_subscripts(parts, 1) as place
    from first_words
),
complete as (
    select
        places.category,
        places.first_word,
        len(places.parts) as n_parts
    from places
    join words
        on words.word = places.first_word + places.place - 1
        and words.document_id = places.document_id
    where _folded(words.form) = places.parts[places.place]
    group by places.category, places.phrase, places.first_word, places.parts
    having count(*) = n_parts
)
select
    categories.category,
    words.word
from categories
join words on _folded(words.form) = categories.word
union
select
    category,
    first_word + unnest(range(n_parts)) as word
from complete;
