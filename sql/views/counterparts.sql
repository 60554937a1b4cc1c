-- Each feature's counterpart in another SAE, from stored pairings. One row per (feature, counterpart).
--
-- What runs of `atlas compare` kept of one-to-one pairings over all features, in both directions, so
-- that a feature is looked up by one column. Of several pairings of the same two SAEs one decides:
-- mutual before hungarian, over words before tokens, of all features before those with
-- concepts_only, with more shifts (a finer p) before fewer, then the newest. All of them are in
-- pairing_cards.
--
-- r, r_held_out, n_both, p, q: as in pairs(); a pair with a large q is listed too
-- method: 'mutual' or 'hungarian'
--
--     select feature, counterpart, r_held_out from counterparts where q <= 0.05 order by r desc limit 5
--
--     select counterpart, r, q from counterparts where feature_id = 12 order by r desc
create or replace view counterparts as
with
directed as (
    select
        if(deciding.forward, feature_pairs.feature_a, feature_pairs.feature_b) as feature_id,
        if(deciding.forward, feature_pairs.feature_b, feature_pairs.feature_a) as counterpart_id,
        deciding.sae_id,
        deciding.counterpart_sae_id,
        feature_pairs.*
    from _deciding_pairings as deciding
    join feature_pairs on feature_pairs.pairing_id = deciding.pairing_id
)
select
    own.name || '/' || (directed.feature_id - own.first_feature_id) as feature,
    other.name || '/' || (directed.counterpart_id - other.first_feature_id) as counterpart,
    directed.r,
    directed.r_held_out,
    directed.n_both,
    directed.p,
    directed.q,
    own_model.name as model,
    own.name as sae,
    own.layer,
    other_model.name as counterpart_model,
    other.name as counterpart_sae,
    other.layer as counterpart_layer,
    pairings.method,
    pairings.over,
    directed.pairing_id,
    directed.feature_id,
    directed.counterpart_id
from directed
join pairings on pairings.pairing_id = directed.pairing_id
join saes as own on own.sae_id = directed.sae_id
join saes as other on other.sae_id = directed.counterpart_sae_id
join models as own_model on own_model.model_id = own.model_id
join models as other_model on other_model.model_id = other.model_id;
