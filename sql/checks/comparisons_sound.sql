-- A comparison is told once a run, of pairs that are there, with possible values and chances.
select
    comparisons.run_id,
    comparisons.pairing_id,
    comparisons.role,
    comparisons.metric,
    comparisons.value,
    comparisons.p,
    comparisons.subset_p,
    comparisons.n
from comparisons
left join pairings on pairings.pairing_id = comparisons.pairing_id
left join saes as a on a.sae_id = pairings.sae_a
left join saes as b on b.sae_id = pairings.sae_b
where (comparisons.role in ('pair', 'ceiling', 'floor')) is distinct from true
or comparisons.metric is null
or (comparisons.n between 0 and pairings.n_pairs) is distinct from true
or (comparisons.n < 3 and comparisons.value is not null)
or (comparisons.value between -1.000001 and 1.000001) is false
-- Only correlations have a sign.
or (
    comparisons.value < -0.000001
    and not (comparisons.metric = 'mean_correlation' or comparisons.metric like 'rsa%')
)
or comparisons.null_sd < 0
or comparisons.subset_sd < 0
or not isfinite(comparisons.null_mean + comparisons.null_sd)
or not isfinite(comparisons.subset_mean + comparisons.subset_sd)
or comparisons.n_permutations < 0
or comparisons.n_subsets < 0
-- p is a count of (b + 1) among (m + 1), and is there where something was drawn.
or (comparisons.p is not null)
    is distinct from (comparisons.value is not null and coalesce(comparisons.n_permutations, 0) > 0)
or (
    comparisons.p between 0 and 1
    and round(comparisons.p * (comparisons.n_permutations + 1)) >= 1
    and abs(
        comparisons.p * (comparisons.n_permutations + 1)
        - round(comparisons.p * (comparisons.n_permutations + 1))
    ) < 1e-6
) is false
or (
    comparisons.subset_p between 0 and 1
    and round(comparisons.subset_p * (comparisons.n_subsets + 1)) >= 1
    and abs(
        comparisons.subset_p * (comparisons.n_subsets + 1)
        - round(comparisons.subset_p * (comparisons.n_subsets + 1))
    ) < 1e-6
) is false
or (comparisons.p is null and comparisons.q is not null)
or (comparisons.subset_p is null and comparisons.subset_q is not null)
or (comparisons.q between comparisons.p * (1 - 1e-9) and 1) is false
or (comparisons.subset_q between comparisons.subset_p * (1 - 1e-9) and 1) is false
or (comparisons.dims_a between 0 and a.d_out) is false
or (comparisons.dims_b between 0 and b.d_out) is false
or (
    select count(*)
    from comparisons as same
    where same.run_id = comparisons.run_id
    and same.pairing_id = comparisons.pairing_id
    and same.role = comparisons.role
    and same.metric = comparisons.metric
) > 1
