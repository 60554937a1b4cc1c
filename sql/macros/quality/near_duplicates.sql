-- Pairs of features of one SAE whose decoder directions nearly agree, the closest first.
--
-- cosine: of the two decoder directions
--
-- sae: name or id
-- least: the smallest cosine to tell
--
--     from near_duplicates('stdlib-a/1-resid_post', least := 0.5)
create or replace macro near_duplicates(sae, least := 0.7) as table
with
-- Features that come that near to none need not be compared with any.
close as (
    select
        features.feature_id,
        saes.name || '/' || features.index as feature,
        vectors.decoder::double[] as direction
    from features
    join saes on saes.sae_id = features.sae_id
    join vectors on vectors.feature_id = features.feature_id
    where features.sae_id = sae_id(sae)
    and coalesce(vectors.max_cosine >= least - 0.000001, true)
)
select
    a.feature as a,
    b.feature as b,
    _cosine(
        list_inner_product(a.direction, b.direction),
        list_inner_product(a.direction, a.direction),
        list_inner_product(b.direction, b.direction)
    ) as cosine,
    a.feature_id as feature_id_a,
    b.feature_id as feature_id_b
from close as a
join close as b on b.feature_id > a.feature_id
where cosine >= least
order by cosine desc, feature_id_a, feature_id_b;
