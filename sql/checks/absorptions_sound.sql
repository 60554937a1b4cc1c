-- Main features and absorbers are of their SAE and never the same, and shares lie between 0 and 1.
select
    absorptions.sae_id,
    absorptions.letter,
    absorptions.main,
    absorptions.absorbers
from absorptions
left join saes on saes.sae_id = absorptions.sae_id
where saes.sae_id is null
or len(absorptions.letter) is distinct from 1
or (absorptions.n_words > 0) is distinct from true
or (absorptions.full_share between 0 and 1) is distinct from true
or (absorptions.fraction between 0 and 1) is distinct from true
or (absorptions.main_f1 between 0 and 1) is distinct from true
or (absorptions.probe_f1 between 0 and 1) is distinct from true
or (absorptions.full_share > 0) is distinct from (len(absorptions.absorbers) > 0)
or list_has_any(absorptions.main, absorptions.absorbers)
or len(list_distinct(absorptions.main)) is distinct from len(absorptions.main)
or coalesce(list_min(list_concat(absorptions.main, absorptions.absorbers)), 0) < 0
or coalesce(list_max(list_concat(absorptions.main, absorptions.absorbers)), 0) >= saes.d_sae
or (
    select count(*)
    from absorptions as same
    where same.sae_id = absorptions.sae_id and same.letter = absorptions.letter
) > 1
