-- Activations on words: the largest over a word's tokens. One row per (feature, word) with one.
--
-- Words are the same for every model, so this is where features of models with different
-- tokenizers meet. Give feature_id a constant: the whole view adds up the whole atlas.
--
--     from word_activations where feature_id = 12 order by q desc limit 5
create or replace view word_activations as
select
    activations.feature_id,
    tokens.word,
    max(activations.q) as q
from activations
join tokens using (token)
group by activations.feature_id, tokens.word;
