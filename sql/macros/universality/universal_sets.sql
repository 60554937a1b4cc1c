-- One feature as several models have it: sets that are each other's best counterparts. One row per set.
--
-- Of every feature of a set, the best counterparts in the other models (see universal) are the rest
-- of the set and no others: a clique in the graph of stored pairs, with one feature a model. A
-- feature is in one set at most, and in none where its counterparts do not agree.
--
-- n_models: models, which is features of the set
-- weakest_r, weakest_r_held_out, weakest_q: of all pairs in the set
-- features, models: names, by feature id
--
-- at_least: models
-- max_q, min_r: which pairs count, as in universal()
--
--     select features, weakest_r from universal_sets(at_least := 3) order by weakest_r desc limit 5
create or replace macro universal_sets(at_least := 3, max_q := 0.05, min_r := 0) as table
select
    found.n_models,
    list(found.feature order by found.feature_id) as features,
    min(found.weakest_r) as weakest_r,
    min(found.weakest_r_held_out) as weakest_r_held_out,
    max(found.weakest_q) as weakest_q,
    list(found.model order by found.feature_id) as models,
    found.members
from universal(at_least := at_least, max_q := max_q, min_r := min_r) as found
group by found.n_models, found.members
having count(*) = found.n_models;
