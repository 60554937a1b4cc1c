-- How alike the SAEs that were compared are: the newest answer to each question. One row per question.
--
-- A question is two SAEs, a subspace, a metric and the settings of the pairing; of the runs that
-- answered it the last one stands. Columns are those of comparison_cards, which explains them: value
-- and calibrated, p and q, floor, ceiling and position between them.
--
--     select layer_a, layer_b, n, calibrated, q, floor, ceiling, position
--     from universality where metric = 'svcca' and subspace = 'all'
--
--     select subspace, n, calibrated, q, subset_q from universality where subspace != 'all' order by q
create or replace view universality as
from comparison_cards
qualify row_number() over (
    partition by
        sae_id_a, sae_id_b, metric, subspace, method, over, min_joint, concepts_only, shifts, seed
    order by run_id desc, pairing_id desc
) = 1;
