-- All paths that lead on from a feature, or to it, not only the strongest ones. One row per path.
--
-- A path that goes on is listed with every feature on its way as its end, so that those to one feature
-- are where feature is that; descendants() and ancestors() count them as n_paths. There may be more
-- than can be listed: at every step, the `most` strongest go on.
--
-- feature, layer, steps: of its other end, and edges to that
-- value, weakest: product of its edges, and the least of them
-- path: names from upstream to downstream
-- cut: whether, of paths with as many steps or fewer, some were left out
--
-- feature: name or id, also a column of them
-- measure, at_least, depth, strong: as in descendants()
-- upstream: whether to list the paths that lead to the feature instead
-- most: paths kept at each step
--
--     from paths('stdlib-a/1-resid_post/12', at_least := 0.3)
create or replace macro paths(
    feature,
    measure := 'pearson',
    at_least := 0.5,
    depth := null,
    strong := false,
    upstream := false,
    most := 1000
) as table
select
    _chains.saes[_chains.place] || '/' || features.index as feature,
    _chains.layers[_chains.place] as layer,
    if(
        _chains.apart is null,
        walked.steps,
        error(_chains.apart)::integer
    ) as steps,
    walked.value,
    walked.weakest,
    list_transform(
        if(
            upstream,
            list_prepend(walked.feature_id, walked.path),
            list_append(walked.path, walked.feature_id)
        ),
        lambda id, i: _chains.saes[_chains.place - if(upstream, 0, walked.steps) + i - 1] || '/'
        || (id - _chains.firsts[_chains.place - if(upstream, 0, walked.steps) + i - 1])
    ) as path,
    walked.cut,
    walked.feature_id
from _beam(
    feature_id(feature), measure, at_least, depth, strong, not upstream, most
) as walked
join features on features.feature_id = walked.feature_id
join _chains on _chains.sae_id = features.sae_id
where if(_chains.apart is null, walked.steps, 1) > 0
order by walked.steps, walked.value desc, walked.path, walked.feature_id;
