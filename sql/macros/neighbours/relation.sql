-- All measures of two features, from their activations over the words of the corpus. One row.
--
-- A word's activation is the largest over its tokens, so the two may be of any models.
-- n_words, n_a, n_b, n_both: words in all, and those on which A, B and both are active
-- pearson, jaccard, sufficiency, necessity, mutual_information, activation_cosine: see each macro
-- decoder_cosine: null unless both directions live in one space
--
-- feature_a, feature_b: name or id
--
--     from relation('stdlib-a/1-resid_post/12', 'stdlib-gpt2/1-resid_post/3')
create or replace macro relation(feature_a, feature_b) as table
with
asked as (
    select
        feature_id(feature_a) as id_a,
        feature_id(feature_b) as id_b
),
words_a as (
    select
        tokens.word,
        max(activations.q) as q
    from asked
    join activations on activations.feature_id = asked.id_a
    join tokens on tokens.token = activations.token
    group by tokens.word
),
words_b as (
    select
        tokens.word,
        max(activations.q) as q
    from asked
    join activations on activations.feature_id = asked.id_b
    join tokens on tokens.token = activations.token
    group by tokens.word
),
joint as (
    select
        count(*) as n_both,
        coalesce(sum(words_a.q::bigint * words_b.q), 0) as sum_ab
    from words_a
    join words_b on words_b.word = words_a.word
)
select
    names_a.feature as feature_a,
    names_b.feature as feature_b,
    corpora.n_words,
    a.word_n_active as n_a,
    b.word_n_active as n_b,
    joint.n_both,
    pearson(
        corpora.n_words, a.word_sum_q, b.word_sum_q, a.word_sum_q2, b.word_sum_q2, joint.sum_ab
    ) as pearson,
    jaccard(a.word_n_active, b.word_n_active, joint.n_both) as jaccard,
    sufficiency(a.word_n_active, joint.n_both) as sufficiency,
    necessity(b.word_n_active, joint.n_both) as necessity,
    mutual_information(corpora.n_words, a.word_n_active, b.word_n_active, joint.n_both)
        as mutual_information,
    activation_cosine(a.word_sum_q2, b.word_sum_q2, joint.sum_ab) as activation_cosine,
    decoder_cosine(asked.id_a, asked.id_b) as decoder_cosine
from asked
cross join joint
join corpora on corpora.corpus_id = 0
join features as a on a.feature_id = asked.id_a
join features as b on b.feature_id = asked.id_b
join feature_names as names_a on names_a.feature_id = asked.id_a
join feature_names as names_b on names_b.feature_id = asked.id_b;
