-- Decoder and encoder directions one below the other. One row per (feature, measure).
create or replace view _directions as
select
    feature_id,
    'decoder' as measure,
    decoder::double[] as direction
from vectors
union all
select
    feature_id,
    'encoder' as measure,
    encoder::double[] as direction
from vectors;
