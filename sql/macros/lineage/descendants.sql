-- Features of later layers that a feature leads to, by edges at least so strong. One row per feature.
--
-- Edges join features of neighbouring layers, of SAEs of one model, hook and variant; see edges for
-- what is stored, and by what measures. A feature may be reached by several paths; the strongest one,
-- whose product of edges is largest, stands for them.
--
-- layer, steps: of the feature reached, and the number of edges to it
-- value: product of the edges along the strongest path; weakest: the least of these edges
-- n_paths: paths by which it is reached
-- path: names along the strongest path, from upstream to downstream, both ends included; of equally
-- strong paths the one through the lowest ids, from its end backwards
--
-- feature: name or id, also a column of them
-- measure: 'pearson', 'jaccard', 'sufficiency', 'necessity', 'mutual_information' or
-- 'activation_cosine'; for decoder directions see edge()
-- at_least: the least value that makes an edge
-- depth: most steps; null for all layers
-- strong: whether active means above a fifth of the maximum, as in edges_strong
--
--     from descendants('stdlib-a/1-resid_post/12')
--
--     select f.feature, count(*) as n, max(d.steps) as persists
--     from feature_names f, descendants(f.feature_id, at_least := 0.9) d
--     where f.sae = 'stdlib-a/1-resid_post' and f.index < 10
--     group by f.feature order by persists desc, n
create or replace macro descendants(
    feature, measure := 'pearson', at_least := 0.5, depth := null, strong := false
) as table
select
    walked.feature,
    walked.layer,
    walked.steps,
    walked.value,
    walked.weakest,
    walked.n_paths,
    walked.path,
    walked.feature_id
from _named_walk(feature, measure, at_least, depth, strong, true) as walked
where walked.steps > 0
order by walked.steps, walked.value desc, walked.feature_id;
