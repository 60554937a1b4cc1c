-- The label to show where there is room for one. One row per labelled feature.
--
-- The best scored label wins, a scored one before one without a score, the latest run before
-- earlier ones. All of them are in the table labels.
--
--     from best_labels where score > 0.8
create or replace view best_labels as
select
    feature_id,
    text as label,
    method,
    explainer,
    score,
    scored_by,
    run_id
from labels
qualify row_number() over (
    partition by feature_id
    order by score desc nulls last, run_id desc, method, explainer, text
) = 1;
