-- No activation is zero or negative: what is stored is what is active.
select
    feature_id,
    token,
    q
from activations
where q is null
or q <= 0
