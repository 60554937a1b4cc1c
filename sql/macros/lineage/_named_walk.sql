-- What _walk() reaches, with names; an error if layers on the way are not linked. One row per feature.
--
-- Joined with another table's rows, a macro stays right only if its argument goes straight on into the
-- recursion: DuckDB 2.0 loses what belongs together if a subquery stands between.
create or replace macro _named_walk(feature, measure, at_least, depth, strong, down) as table
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
    -- Counted as doubles: there may be more than fit into a BIGINT.
    least(walked.n_paths, 9e18)::bigint as n_paths,
    list_transform(
        if(
            down,
            list_append(walked.path, walked.feature_id),
            list_prepend(walked.feature_id, walked.path)
        ),
        lambda id, i: _chains.saes[_chains.place - if(down, walked.steps, 0) + i - 1] || '/'
        || (id - _chains.firsts[_chains.place - if(down, walked.steps, 0) + i - 1])
    ) as path,
    walked.feature_id
from _walk(feature_id(feature), measure, at_least, depth, strong, down) as walked
join features on features.feature_id = walked.feature_id
join _chains on _chains.sae_id = features.sae_id;
