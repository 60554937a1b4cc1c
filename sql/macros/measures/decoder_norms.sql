-- How much of a feature's decoder direction each hook point holds. One row per hook point written.
--
-- For a crosscoder, whose norms tell in which layers, or in which model, a feature acts.
-- site, norm, share: as in site_decoders, in the order in which the hook points lie side by side
--
-- feature: name or id
--
--     from decoder_norms('stdlib-a/1-resid_post/12')
create or replace macro decoder_norms(feature) as table
with
asked as (
    select feature_id(feature) as feature_id
)
select
    site_decoders.site,
    site_decoders.layer,
    site_decoders.hook,
    site_decoders.norm,
    site_decoders.share
from asked
join site_decoders on site_decoders.feature_id = asked.feature_id
order by site_decoders.place;
