-- What is kept of a pair is what the activations say, for some features of each link with all theirs.
--
-- Of every link three A-features are told again, with every B-feature: also that no pair is missing.
-- Dense ones, which meet nearly all of B's activations, only where there are no others.
with
picked as (
    select
        links.link_id,
        links.over,
        features.feature_id,
        features.max_q
    from links
    join features on features.sae_id = links.sae_a
    where features.alive
    qualify row_number() over (
        partition by links.link_id
        order by features.density > 0.01, hash(features.feature_id), features.feature_id
    ) <= 3
),
fired_a as (
    select
        picked.link_id,
        picked.over,
        picked.feature_id,
        if(picked.over = 'tokens', tokens.token, tokens.word) as unit,
        max(activations.q)::bigint as q,
        any_value(picked.max_q) as max_q
    from picked
    join activations on activations.feature_id = picked.feature_id
    join tokens on tokens.token = activations.token
    group by all
),
-- The tokens on which B may fire along with A.
places as (
    select distinct
        fired_a.link_id,
        fired_a.unit,
        tokens.token
    from fired_a
    join tokens on tokens.word = fired_a.unit
    where fired_a.over = 'words'
    union all
    select distinct
        fired_a.link_id,
        fired_a.unit,
        fired_a.unit as token
    from fired_a
    where fired_a.over = 'tokens'
),
fired_b as (
    select
        links.link_id,
        activations.feature_id,
        places.unit,
        max(activations.q)::bigint as q,
        any_value(features.max_q) as max_q
    from links
    join features on features.sae_id = links.sae_b
    join activations on activations.feature_id = features.feature_id
    join places on places.link_id = links.link_id and places.token = activations.token
    group by all
),
expected as (
    select
        fired_a.link_id,
        fired_a.feature_id as feature_a,
        fired_b.feature_id as feature_b,
        count(*) as n_both,
        count(*) filter (5 * fired_a.q > fired_a.max_q and 5 * fired_b.q > fired_b.max_q)
            as n_both_strong,
        sum(fired_a.q * fired_b.q) as sum_ab
    from fired_a
    join fired_b on fired_b.link_id = fired_a.link_id and fired_b.unit = fired_a.unit
    join links on links.link_id = fired_a.link_id
    group by fired_a.link_id, fired_a.feature_id, fired_b.feature_id
    having count(*) >= any_value(links.min_joint)
),
kept as (
    select coactivations.*
    from coactivations
    join picked
        on picked.link_id = coactivations.link_id and picked.feature_id = coactivations.feature_a
)
select
    coalesce(kept.link_id, expected.link_id) as link_id,
    coalesce(kept.feature_a, expected.feature_a) as feature_a,
    coalesce(kept.feature_b, expected.feature_b) as feature_b,
    kept.n_both,
    expected.n_both as n_both_expected,
    kept.n_both_strong,
    expected.n_both_strong as n_both_strong_expected,
    kept.sum_ab,
    expected.sum_ab as sum_ab_expected
from kept
full join expected
    on expected.link_id = kept.link_id
    and expected.feature_a = kept.feature_a
    and expected.feature_b = kept.feature_b
where kept.n_both is distinct from expected.n_both
or kept.n_both_strong is distinct from expected.n_both_strong
or kept.sum_ab is distinct from expected.sum_ab
