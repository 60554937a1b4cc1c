-- A pairing is of known kind, over units that both SAEs have, and counts its pairs.
with counted as (
    select
        pairing_id,
        count(*) as n_pairs
    from feature_pairs
    group by pairing_id
)
select
    pairings.pairing_id,
    pairings.method,
    pairings.over,
    pairings.n_a,
    pairings.n_b,
    pairings.n_pairs,
    coalesce(counted.n_pairs, 0) as n_pairs_found
from pairings
left join counted on counted.pairing_id = pairings.pairing_id
left join saes as a on a.sae_id = pairings.sae_a
left join saes as b on b.sae_id = pairings.sae_b
left join models as model_a on model_a.model_id = a.model_id
left join models as model_b on model_b.model_id = b.model_id
where pairings.pairing_id is null
or (pairings.method in ('mutual', 'best', 'hungarian', 'lan2024', 'sae_match'))
    is distinct from true
or (
    pairings.over = 'words'
    or (pairings.over = 'tokens' and model_a.tokenizer_id = model_b.tokenizer_id)
) is distinct from true
or trim(coalesce(pairings.subspace, '')) = ''
or (pairings.subspace = 'all') is distinct from (pairings.keywords is null)
or (pairings.min_joint >= 1) is distinct from true
or (pairings.shifts >= 0) is distinct from true
or pairings.concepts_only is null
or pairings.n_pairs is distinct from coalesce(counted.n_pairs, 0)
or (pairings.n_a between pairings.n_pairs and a.d_sae) is distinct from true
-- 'best' lets features of B be the partner of several.
or (
    pairings.n_b between if(pairings.method = 'best', 0, pairings.n_pairs) and b.d_sae
) is distinct from true
