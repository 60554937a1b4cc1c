-- SAEs whose features' joint activity is stored. One row per link.
--
-- What `atlas link` kept, and `atlas ingest` of neighbouring layers by itself.
-- sae_a, sae_b: upstream and downstream where both are of one model
-- n_pairs: pairs stored; see edges
-- over, n: what was counted, 'tokens' of a common tokenizer or 'words', and how many
-- min_joint: pairs are stored from as many joint firings on
-- linked_a, linked_b: features with at least one of them, as a share of the live ones
--
--     from link_cards order by sae_a
create or replace view link_cards as
select
    a.name as sae_a,
    b.name as sae_b,
    links.n_pairs,
    links.over,
    links.min_joint,
    counted.n_linked_a / nullif(live_a.n_alive, 0) as linked_a,
    counted.n_linked_b / nullif(live_b.n_alive, 0) as linked_b,
    links.n,
    runs.ended_at as linked_at,
    links.run_id,
    links.link_id,
    links.sae_a as sae_id_a,
    links.sae_b as sae_id_b
from links
join saes as a on a.sae_id = links.sae_a
join saes as b on b.sae_id = links.sae_b
left join runs on runs.run_id = links.run_id
left join (
    select
        coactivations.link_id,
        count(distinct coactivations.feature_a) as n_linked_a,
        count(distinct coactivations.feature_b) as n_linked_b
    from coactivations
    group by coactivations.link_id
) as counted on counted.link_id = links.link_id
left join (
    select
        features.sae_id,
        count(*) filter (features.alive) as n_alive
    from features
    group by features.sae_id
) as live_a on live_a.sae_id = links.sae_a
left join (
    select
        features.sae_id,
        count(*) filter (features.alive) as n_alive
    from features
    group by features.sae_id
) as live_b on live_b.sae_id = links.sae_b;
