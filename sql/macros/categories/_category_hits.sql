-- Features whose strongest words are keywords of a category. One row per (category, feature).
--
-- hits: how many of the n words are keywords; words: their forms, each once, the strongest first
--
-- saes: list of SAE ids
-- n: how many of a feature's strongest words to look at
-- least: how many of them must be keywords
create or replace macro _category_hits(saes, n, least) as table
select
    _keyword_places.category,
    strongest.feature_id,
    count(*) as hits,
    list_distinct(list(_folded(words.form) order by strongest.q desc, words.word)) as words
from _strongest_words(saes, n) as strongest
join _keyword_places on _keyword_places.word = strongest.word
join words on words.word = strongest.word
group by _keyword_places.category, strongest.feature_id
having hits >= least;
