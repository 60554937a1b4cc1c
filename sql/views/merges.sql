-- Features that several of the layer before together were. One row per downstream feature.
--
-- merges() with its defaults; see there for the columns.
--
--     select feature, parts[1].part, parts[2].part, cover from merges order by cover desc limit 5
create or replace view merges as
from merges();
