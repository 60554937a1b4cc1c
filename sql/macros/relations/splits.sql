-- Features that several of the next layer together stand for. One row per upstream feature.
--
-- Each part is a downstream feature hardly ever active without the feature (see specialised), none of
-- them is all of it, and together they are active on nearly all of its tokens.
-- splits and merges leave one-to-one matching behind: what was one feature is several, or what was
-- several is one. `splits` alone is the same with these defaults.
-- parts: list of structs, the largest share first; share is how much of the feature's activity is
-- the part's, within how much of the part's is the feature's, id the part's feature_id
-- cover: share of the feature's tokens on which at least one of the parts is active; counted on the
-- stored activations, as parts may overlap
-- cover_low: lower limit of its interval; see share_interval
-- overlap: parts active at once, the mean over the tokens covered; 1 if they divide it
--
-- min_cover: least lower limit of cover
-- min_within: least lower limit of P(feature | part)
-- max_share: greatest upper limit of P(part | feature): a part that is nearly all of it is none
-- min_lift: least P(feature | part) over the feature's rate
-- max_pearson: Pearson's r from which on a part is the feature itself
-- max_overlap: greatest overlap; where more parts than that are active at once, they repeat each other
-- confidence: share of such intervals that hold the true share
-- strong: true for activity above a fifth of the maximum, as in edges_strong
--
--     select feature, len(parts) as n, cover, overlap from splits order by cover desc limit 5
--
--     select feature, unnest(parts, recursive := true) from splits(min_cover := 0.8)
create or replace macro splits(
    min_cover := 0.9,
    min_within := 0.9,
    max_share := 0.9,
    min_lift := 5,
    max_pearson := 0.95,
    max_overlap := 1.5,
    confidence := 0.95,
    strong := false
) as table
from _divided(min_cover, min_within, max_share, min_lift, max_pearson, max_overlap, confidence, strong, true);
