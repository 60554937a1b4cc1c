-- Features of the next layer that fire on more than an upstream feature does. One row per pair.
--
-- generalised() with its defaults; see there for the columns.
--
--     select parent, child, sufficiency, necessity from generalised order by n_parent desc limit 5
create or replace view generalised as
from generalised();
