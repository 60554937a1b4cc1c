-- A pair is of its SAEs' features, each once where the method says so, with possible statistics.
with
placed as (
    select
        feature_pairs.*,
        pairings.method,
        pairings.min_joint,
        pairings.shifts,
        pairings.n_a,
        if(pairings.over = 'words', features_a.word_n_active, features_a.n_active) as active_a,
        if(pairings.over = 'words', features_b.word_n_active, features_b.n_active) as active_b,
        features_a.sae_id = pairings.sae_a and features_b.sae_id = pairings.sae_b as of_its_saes
    from feature_pairs
    left join pairings on pairings.pairing_id = feature_pairs.pairing_id
    left join features as features_a on features_a.feature_id = feature_pairs.feature_a
    left join features as features_b on features_b.feature_id = feature_pairs.feature_b
),
repeated as (
    select
        pairing_id,
        feature_a,
        null as feature_b
    from placed
    group by all
    having count(*) > 1
    union all
    select
        pairing_id,
        null,
        feature_b
    from placed
    where method != 'best'
    group by all
    having count(*) > 1
)
select
    pairing_id,
    feature_a,
    feature_b,
    r,
    n_both,
    p,
    q
from placed
where of_its_saes is distinct from true
or abs(r) > 1
or abs(r_chosen) > 1
or abs(r_held_out) > 1
-- Rows are compared as a whole, since NaN is above 1 and what is missing is not.
or (
    case
        when method = 'sae_match' then r_chosen is null and p is null and distance >= 0
        when method = 'lan2024' then r > 0.1 and r_chosen = r and p is null and distance is null
        else
            r is not null
            and r_chosen is not null
            and n_both >= min_joint
            and (p is null) = (shifts = 0)
            and distance is null
    end
) is distinct from true
or (n_both between 0 and least(active_a, active_b)) is distinct from true
or (p is null) is distinct from (q is null)
or (p > 0 and p <= 1) is false
-- Benjamini and Hochberg, over the features of A that a partner was sought for: p·n_a at most.
or (q between p * (1 - 1e-9) and least(1, p * n_a * (1 + 1e-9))) is false
union all
select
    pairing_id,
    feature_a,
    feature_b,
    null,
    null,
    null,
    null
from repeated
