-- Id of an SAE given by its name or its id; an error for an SAE that the atlas does not hold.
--
-- sae: name ('stdlib-a/1-resid_post') or id; null gives null
--
--     from features where sae_id = sae_id('stdlib-a/1-resid_post') limit 3
create or replace macro sae_id(sae) as list_transform(
    [{'sae': sae::varchar, 'saes': _saes()}],
    lambda asked: coalesce(
        list_transform(
            list_filter(
                asked.saes, lambda s: asked.sae = s.name or asked.sae = s.sae_id::varchar
            ),
            lambda s: s.sae_id
        )[1],
        if(asked.sae is null, null, error(_no_sae(asked.sae, asked.saes))::integer)
    )
)[1];
