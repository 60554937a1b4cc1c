-- The whole atlas in one row: what it holds and on which corpus.
--
--     from overview
create or replace view overview as
select
    (select count(*) from models) as models,
    (select count(*) from saes) as saes,
    (select count(*) from features) as features,
    (select count(*) from features where alive) as alive_features,
    (select count(*) from activations) as activations,
    (select count(distinct feature_id) from labels) as labelled_features,
    corpora.name as corpus,
    corpora.licence as corpus_licence,
    corpora.n_documents as documents,
    corpora.n_words as words,
    corpora.n_characters as characters
from (select 1)
left join corpora on corpora.corpus_id = 0;
