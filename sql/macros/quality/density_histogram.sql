-- How many features of each SAE are how dense: a histogram over log10 of the share of active tokens.
--
-- One row per SAE and bin, empty bins between others included; dead features have a bin of their own,
-- from 0 to 0, where there are any.
-- at_least, below: the densities between which a bin lies, 10^(i / per_decade)
-- features: how many
--
-- space: name of an SAE or of a model; null for all
-- per_decade: bins in a factor of ten
--
--     from density_histogram('stdlib-a/1-resid_post')
--
--     from density_histogram(null, per_decade := 1)
create or replace macro density_histogram(space, per_decade := 2) as table
with
binned as (
    select
        features.sae_id,
        -- A density that is a power of ten begins its bin, whatever its logarithm is rounded to.
        floor(log10(nullif(features.density, 0)) * per_decade + 0.000000001)::bigint as bin,
        count(*) as features
    from features
    where list_contains(saes_in(space), features.sae_id)
    group by all
),
bins as (
    select
        sae_id,
        unnest(generate_series(min(bin), max(bin))) as bin
    from binned
    group by sae_id
)
select
    saes.name as sae,
    pow(10, bins.bin / per_decade) as at_least,
    pow(10, (bins.bin + 1) / per_decade) as below,
    coalesce(binned.features, 0) as features
from bins
join saes on saes.sae_id = bins.sae_id
left join binned on binned.sae_id = bins.sae_id and binned.bin = bins.bin
union all
select
    saes.name as sae,
    0 as at_least,
    0 as below,
    binned.features
from binned
join saes on saes.sae_id = binned.sae_id
where binned.bin is null
order by sae, at_least;
