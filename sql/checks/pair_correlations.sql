-- The r and the joint words of stored pairs follow from the activations, in some pairs of each pairing.
--
-- Of every pairing over words two pairs are told again: those with the most and the fewest joint words.
with
picked as (
    select
        feature_pairs.pairing_id,
        feature_pairs.feature_a,
        feature_pairs.feature_b,
        feature_pairs.r,
        feature_pairs.n_both
    from feature_pairs
    join pairings on pairings.pairing_id = feature_pairs.pairing_id
    where pairings.over = 'words'
    qualify row_number() over (
        partition by feature_pairs.pairing_id order by feature_pairs.n_both, feature_pairs.feature_a
    ) = 1
    or row_number() over (
        partition by feature_pairs.pairing_id
        order by feature_pairs.n_both desc, feature_pairs.feature_a
    ) = 1
),
named as (
    select feature_a as feature_id from picked
    union
    select feature_b as feature_id from picked
),
-- As the view word_activations, which would add up all features.
active as materialized (
    select
        activations.feature_id,
        tokens.word,
        max(activations.q) as q
    from named
    join activations on activations.feature_id = named.feature_id
    join tokens on tokens.token = activations.token
    group by activations.feature_id, tokens.word
),
joint as (
    select
        picked.pairing_id,
        picked.feature_a,
        picked.feature_b,
        count(b.word) as n_both,
        coalesce(sum(a.q::bigint * b.q), 0) as sum_ab
    from picked
    join active as a on a.feature_id = picked.feature_a
    left join active as b on b.feature_id = picked.feature_b and b.word = a.word
    group by picked.pairing_id, picked.feature_a, picked.feature_b
)
select
    picked.pairing_id,
    picked.feature_a,
    picked.feature_b,
    picked.r,
    pearson(
        corpora.n_words, a.word_sum_q, b.word_sum_q, a.word_sum_q2, b.word_sum_q2, joint.sum_ab
    ) as expected,
    picked.n_both,
    joint.n_both as n_both_found
from picked
left join joint
    on joint.pairing_id = picked.pairing_id
    and joint.feature_a = picked.feature_a
    and joint.feature_b = picked.feature_b
left join features as a on a.feature_id = picked.feature_a
left join features as b on b.feature_id = picked.feature_b
left join corpora on corpora.corpus_id = 0
where picked.n_both is distinct from coalesce(joint.n_both, 0)
or (picked.r is null) is distinct from (expected is null)
or abs(picked.r - expected) > 1e-6
