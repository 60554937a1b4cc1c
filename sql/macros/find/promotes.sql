-- Features whose direction makes a token more likely, those that rank it highest first.
--
-- From the logit lens (table token_effects): the decoder direction times the final norm's gain times
-- the unembedding, centred over the vocabulary. Only each feature's most promoted tokens are kept,
-- and effects of different SAEs are on different scales, hence the order by rank.
-- token_rank: the token's place among the feature's most promoted ones, 1 the first
--
-- token: its text; a space before it may be left out
-- n: how many features
-- within: name of a model or an SAE to keep to, or a pattern of SAEs' names; null for everything
--
--     from promotes('the', n := 5)
create or replace macro promotes(token, n := 20, within := null) as table
select
    (
        row_number() over (
            order by abs(found.token_rank), abs(found.effect) desc, found.feature_id, found.text
        )
    )::integer as rank,
    found.feature,
    found.effect,
    abs(found.token_rank) as token_rank,
    found.text as token,
    found.label,
    found.feature_id
from _effects_on(token, within) as found
where found.token_rank > 0
qualify rank <= n
order by rank;
