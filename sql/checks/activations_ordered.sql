-- Activations are stored by feature, then token, each pair once: reading one feature rests on it.
select
    feature_id,
    token
from (
    select
        feature_id,
        token,
        lag(feature_id) over by_place as feature_before,
        lag(token) over by_place as token_before
    from activations
    window by_place as (order by rowid)
)
where feature_before > feature_id
or (feature_before = feature_id and token_before >= token)
