-- Features that several of the next layer together stand for. One row per upstream feature.
--
-- splits() with its defaults; see there for the columns.
--
--     select feature, parts[1].part, parts[2].part, cover from splits order by cover desc limit 5
create or replace view splits as
from splits();
