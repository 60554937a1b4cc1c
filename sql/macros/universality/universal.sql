-- Features with counterparts in other models, and whether these agree with each other. One row per feature.
--
-- From stored pairings alone (see counterparts), so `atlas compare` the models with each other first.
-- Of each other model the counterpart with the highest r stands, whatever its layer. Models whose
-- weights were made random are left out: what pairs with those is no evidence.
--
-- n_models: models with this feature, its own included
-- n_compared: models that could have had it: that some pairing with this feature's SAE is stored of,
-- its own included
-- n_links: pairs of its counterparts, which are of different models: k·(k − 1) / 2 of k
-- n_checked: links for which a pairing of the two counterparts' SAEs is stored; the rest is unknown
-- n_agreed: links whose two are each other's counterparts, by the same max_q and min_r. A wrong
-- partner would agree by luck once in as many times as an SAE has features
-- consistent: true if all links agree, so that the feature and its counterparts are a clique; false
-- if one that was checked does not; null if that is not known, or with two models, where there is no
-- link. Matching that composes, as in SAE Match (arXiv 2410.07656), A → C as A → B → C
-- weakest_r, weakest_r_held_out, weakest_q: of the pairs with its counterparts
-- counterparts: of each other model the best one, by falling r
-- members: ids of the feature and its counterparts, ascending; see universal_sets()
--
-- at_least: models, the feature's own included
-- max_q: false discovery rate up to which a pair counts; pairs without a q never do
-- min_r: r from which on a pair counts
--
--     select feature, n_models, consistent, weakest_r from universal(at_least := 3, min_r := 0.3)
--
--     select u.feature, c.label, u.counterparts[1].feature as nearest, u.weakest_r
--     from universal(at_least := 2) u join feature_cards c using (feature_id)
--     order by u.weakest_r desc limit 5
create or replace macro universal(at_least := 3, max_q := 0.05, min_r := 0) as table
with
compared as (
    select
        deciding.pairing_id,
        deciding.sae_id,
        deciding.counterpart_sae_id,
        deciding.forward,
        theirs.model_id as counterpart_model_id
    from _deciding_pairings as deciding
    join saes as own on own.sae_id = deciding.sae_id
    join models as ours on ours.model_id = own.model_id
    join saes as other on other.sae_id = deciding.counterpart_sae_id
    join models as theirs on theirs.model_id = other.model_id
    where ours.model_id != theirs.model_id
    and ours.randomized is null
    and theirs.randomized is null
),
eligible as materialized (
    select
        if(compared.forward, feature_pairs.feature_a, feature_pairs.feature_b) as feature_id,
        if(compared.forward, feature_pairs.feature_b, feature_pairs.feature_a) as counterpart_id,
        compared.sae_id,
        compared.counterpart_sae_id,
        compared.counterpart_model_id,
        feature_pairs.r,
        feature_pairs.r_held_out,
        feature_pairs.q
    from compared
    join feature_pairs on feature_pairs.pairing_id = compared.pairing_id
    where feature_pairs.q <= max_q
    and feature_pairs.r >= min_r
),
-- The best counterpart in each other model; equal ones go by id.
best as materialized (
    select eligible.*
    from eligible
    qualify row_number() over (
        partition by eligible.feature_id, eligible.counterpart_model_id
        order by eligible.r desc, eligible.counterpart_id
    ) = 1
),
links as (
    select
        one.feature_id,
        count(*) as n_links,
        count(compared.pairing_id) as n_checked,
        count(eligible.feature_id) as n_agreed
    from best as one
    join best as other
        on other.feature_id = one.feature_id
        and other.counterpart_model_id > one.counterpart_model_id
    left join compared
        on compared.sae_id = one.counterpart_sae_id
        and compared.counterpart_sae_id = other.counterpart_sae_id
    left join eligible
        on eligible.feature_id = one.counterpart_id
        and eligible.counterpart_id = other.counterpart_id
    group by one.feature_id
),
reached as (
    select
        sae_id,
        1 + count(distinct counterpart_model_id) as n_compared
    from compared
    group by sae_id
),
gathered as (
    select
        best.feature_id,
        best.sae_id,
        1 + count(*) as n_models,
        min(best.r) as weakest_r,
        min(best.r_held_out) as weakest_r_held_out,
        max(best.q) as weakest_q,
        -- Sorted as lists below: sorting within the aggregate takes twice as long.
        list(
            {
                'r': best.r,
                'before': -best.counterpart_id,
                'feature': saes.name || '/' || (best.counterpart_id - saes.first_feature_id),
                'model': models.name,
                'r_held_out': best.r_held_out,
                'q': best.q
            }
        ) as found
    from best
    join saes on saes.sae_id = best.counterpart_sae_id
    join models on models.model_id = saes.model_id
    group by best.feature_id, best.sae_id
)
select
    saes.name || '/' || (gathered.feature_id - saes.first_feature_id) as feature,
    gathered.n_models,
    reached.n_compared,
    case
        when links.n_agreed < links.n_checked then false
        when links.n_checked = links.n_links then true
    end as consistent,
    coalesce(links.n_links, 0) as n_links,
    coalesce(links.n_checked, 0) as n_checked,
    coalesce(links.n_agreed, 0) as n_agreed,
    gathered.weakest_r,
    gathered.weakest_r_held_out,
    gathered.weakest_q,
    list_transform(
        list_reverse_sort(gathered.found),
        lambda f: {
            'feature': f.feature,
            'model': f.model,
            'r': f.r,
            'r_held_out': f.r_held_out,
            'q': f.q,
            'feature_id': -f.before
        }
    ) as counterparts,
    list_sort(
        list_append(list_transform(gathered.found, lambda f: -f.before), gathered.feature_id)
    ) as members,
    models.name as model,
    saes.name as sae,
    saes.layer,
    gathered.feature_id
from gathered
join reached on reached.sae_id = gathered.sae_id
join saes on saes.sae_id = gathered.sae_id
join models on models.model_id = saes.model_id
left join links on links.feature_id = gathered.feature_id
where gathered.n_models >= at_least;
