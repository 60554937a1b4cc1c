-- Every SAE reads and writes hook points whose activations fill its directions without a gap, and
-- what was measured at those it writes is possible.
with sums as (
    select
        sae_id,
        role,
        sum(width) as width,
        count(*) = max(place) + 1 as places_complete
    from sae_sites
    group by sae_id, role
), gaps as (
    select
        sae_id,
        role
    from sae_sites
    qualify first_column is distinct from coalesce(
        sum(width) over (
            partition by sae_id, role order by place rows between unbounded preceding and 1 preceding
        ),
        0
    )
)
select
    saes.sae_id,
    saes.name,
    roles.role,
    sums.width
from saes
cross join (select unnest(['input', 'output']) as role) as roles
left join sums on sums.sae_id = saes.sae_id and sums.role = roles.role
where sums.width is distinct from if(roles.role = 'input', saes.d_in, saes.d_out)
or not sums.places_complete
or exists (from gaps where gaps.sae_id = saes.sae_id and gaps.role = roles.role)
or exists (
    from sae_sites as measured
    where measured.sae_id = saes.sae_id
    and measured.role = roles.role
    and (
        measured.spread < 0
        or not isfinite(measured.spread)
        or measured.explained_variance > 1
        or (measured.role = 'input' and measured.spread is not null)
    )
)
