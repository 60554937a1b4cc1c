-- Features of the next layer that fire on a part of what an upstream feature does. One row per pair.
--
-- specialised() with its defaults; see there for the columns.
--
--     select parent, child, necessity, sufficiency from specialised order by n_child desc limit 5
create or replace view specialised as
from specialised();
