-- A label says something, and how it was made; a score says how it was scored.
select
    feature_id,
    text,
    method,
    score,
    scored_by
from labels
where trim(coalesce(text, '')) = ''
or method is null
or (score is not null and (not isfinite(score) or scored_by is null))
