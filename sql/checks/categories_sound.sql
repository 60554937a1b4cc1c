-- A category has a name and each of its words once, folded as words are compared; its words are not empty.
select
    category,
    word,
    min(source) as source,
    count(*) as times
from categories
group by category, word
having times > 1
or coalesce(trim(category), '') = ''
or coalesce(trim(word), '') = ''
or word != _folded(word)
or source is null
union all
select 'non_concepts', text, null, count(*) from non_concepts group by text having count(*) > 1
