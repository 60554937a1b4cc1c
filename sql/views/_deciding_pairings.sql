-- Of each two SAEs the stored pairing that decides, both ways. One row per (SAE, SAE of counterparts).
--
-- See the header of counterparts for which one decides.
-- forward: whether the SAE is the pairing's sae_a
create or replace view _deciding_pairings as
with
deciding as (
    select
        pairings.pairing_id,
        pairings.sae_a,
        pairings.sae_b
    from pairings
    where pairings.subspace = 'all'
    and pairings.method in ('mutual', 'hungarian')
    and pairings.sae_a != pairings.sae_b
    qualify row_number() over (
        partition by
            least(pairings.sae_a, pairings.sae_b), greatest(pairings.sae_a, pairings.sae_b)
        order by
            pairings.method = 'mutual' desc,
            pairings.over = 'words' desc,
            pairings.concepts_only,
            pairings.shifts desc,
            pairings.run_id desc,
            pairings.pairing_id desc
    ) = 1
)
select
    pairing_id,
    sae_a as sae_id,
    sae_b as counterpart_sae_id,
    true as forward
from deciding
union all
select
    pairing_id,
    sae_b as sae_id,
    sae_a as counterpart_sae_id,
    false as forward
from deciding;
