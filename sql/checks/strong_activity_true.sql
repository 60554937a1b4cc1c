-- The strong firings of every linked SAE's features are there once, and counted rightly in some.
--
-- Of every SAE four live features are counted again: over words a count of all costs minutes.
with
wanted as (
    select distinct
        unnest([sae_a, sae_b]) as sae_id,
        over
    from links
),
listed as (
    select
        features.feature_id,
        wanted.over,
        features.max_q,
        features.n_active,
        features.alive,
        row_number() over (
            partition by features.sae_id, wanted.over
            order by features.alive desc, hash(features.feature_id), features.feature_id
        ) <= 4 as picked
    from wanted
    join features on features.sae_id = wanted.sae_id
),
counted as (
    select
        fired.feature_id,
        fired.over,
        count(*) filter (5 * fired.q > fired.max_q) as n_strong
    from (
        select
            listed.feature_id,
            listed.over,
            listed.max_q,
            if(listed.over = 'tokens', tokens.token, tokens.word) as unit,
            max(activations.q)::bigint as q
        from listed
        join activations on activations.feature_id = listed.feature_id
        join tokens on tokens.token = activations.token
        where listed.picked
        group by all
    ) as fired
    group by fired.feature_id, fired.over
)
select
    coalesce(listed.feature_id, strong_activity.feature_id) as feature_id,
    coalesce(listed.over, strong_activity.over) as over,
    strong_activity.n_strong,
    counted.n_strong as n_strong_expected
from listed
full join strong_activity
    on strong_activity.feature_id = listed.feature_id and strong_activity.over = listed.over
left join counted on counted.feature_id = listed.feature_id and counted.over = listed.over
where (strong_activity.n_strong between if(listed.alive, 1, 0) and listed.n_active)
    is distinct from true
or (listed.picked and strong_activity.n_strong != coalesce(counted.n_strong, 0))
or (
    select count(*)
    from strong_activity as same
    where same.feature_id = strong_activity.feature_id and same.over = strong_activity.over
) > 1
