-- Kernel of compare() and its kin: one struct. Here only a stand-in for clients without Python.
create or replace macro _compare(
    a,
    b,
    metric_,
    subspace_,
    method_,
    over_,
    min_joint_,
    concepts_only_,
    permutations_,
    subsets_,
    seed_
) as error(
    'Spaces of features are compared in Python: open the atlas with atlas.open() or `atlas sql`;'
    ' comparisons that were kept are in the view universality.'
)::struct(
    value double,
    calibrated double,
    null_mean double,
    null_sd double,
    p double,
    subset_mean double,
    subset_sd double,
    subset_p double,
    n bigint,
    dims_a integer,
    dims_b integer
);
