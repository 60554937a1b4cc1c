-- Ranks run 1, 2, …, 'top' first, and within a stratum strongest first, then by token.
select
    feature_id,
    rank,
    stratum,
    q
from (
    select
        feature_id,
        rank,
        stratum,
        q,
        token,
        row_number() over by_rank as expected_rank,
        lag(stratum) over by_rank as stratum_before,
        lag(q) over by_rank as q_before,
        lag(token) over by_rank as token_before
    from examples
    window by_rank as (partition by feature_id order by rank)
)
where rank != expected_rank
or stratum not in ('top', 'q1', 'q2', 'q3', 'q4', 'q5')
or (stratum = 'top' and stratum_before != 'top')
or (stratum = stratum_before and (q > q_before or (q = q_before and token <= token_before)))
