-- Cosines of two features' decoder directions, hook point by hook point. One row per pair in a space.
--
-- Of a crosscoder's direction, each hook point's part is taken alone: it compares with SAEs of that
-- space, and with the same feature's other parts, which tells how a direction turns from layer to
-- layer. No rows if no part of the one lives in a space of the other; see sae_spaces.
-- cosine: null if one of the two parts is zero
--
-- feature_a, feature_b: name or id, may be the same
--
--     from site_cosines('stdlib-a/1-resid_post/12', 'stdlib-a/3-resid_post/2')
create or replace macro site_cosines(feature_a, feature_b) as table
with
asked as (
    select
        feature_id(feature_a) as id_a,
        feature_id(feature_b) as id_b
)
select
    a.site as site_a,
    b.site as site_b,
    _cosine(
        list_inner_product(a.direction::double[], b.direction::double[]),
        a.norm * a.norm,
        b.norm * b.norm
    ) as cosine
from asked
join site_decoders as a on a.feature_id = asked.id_a
join site_decoders as b on b.feature_id = asked.id_b and b.space = a.space
order by a.place, b.place;
