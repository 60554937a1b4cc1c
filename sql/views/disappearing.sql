-- Features that do not go on in the next layer. One row per feature.
--
-- disappearing() with its defaults; see there for the columns.
--
--     select sae, count(*) from disappearing where tested group by sae
create or replace view disappearing as
from disappearing();
