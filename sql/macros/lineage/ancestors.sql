-- Features of earlier layers that lead to a feature, by edges at least so strong. One row per feature.
--
-- As descendants(), upstream; steps are counted upwards, and paths still run downstream.
--
-- layer, steps, value, weakest, n_paths, path: as in descendants()
--
-- feature: name or id, also a column of them
-- measure, at_least, depth, strong: as in descendants()
--
--     from ancestors('stdlib-a/3-resid_post/2')
create or replace macro ancestors(
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
from _named_walk(feature, measure, at_least, depth, strong, false) as walked
where walked.steps > 0
order by walked.steps, walked.value desc, walked.feature_id;
