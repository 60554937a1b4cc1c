-- Features that go on in the next layer, each with its best successor. One row per feature.
--
-- passed_through() with its defaults; see there for the columns.
--
--     from passed_through order by value desc limit 5
create or replace view passed_through as
from passed_through();
