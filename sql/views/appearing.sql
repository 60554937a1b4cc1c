-- Features that no feature of the layer before passes into. One row per feature.
--
-- appearing() with its defaults; see there for the columns.
--
--     select sae, count(*) from appearing where tested group by sae
create or replace view appearing as
from appearing();
