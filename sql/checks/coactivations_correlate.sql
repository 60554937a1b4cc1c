-- Pearson's r of stored pairs is what follows from their sums.
select
    link_id,
    feature_id_a,
    feature_id_b,
    pearson,
    pearson(n, sum_a, sum_b, sum_a2, sum_b2, sum_ab) as expected
from _joint_sums
where (pearson is null) != (expected is null)
or abs(pearson - expected) > 1e-12
