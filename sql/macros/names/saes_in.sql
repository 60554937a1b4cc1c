-- Ids of the SAEs that a name covers, as a list: of an SAE, of a model, of all that fit, or of all.
--
-- space: name of an SAE or of a model, or a pattern of SAEs' names ('stdlib-a/*-resid_post', where *
-- stands for any characters and ? for one); null stands for the whole atlas
--
--     from sae_cards where list_contains(saes_in('stdlib-a'), sae_id)
create or replace macro saes_in(space) as list_transform(
    [{'space': space::varchar, 'saes': _saes()}],
    lambda asked: list_transform(
        [
            list_transform(
                list_filter(
                    asked.saes,
                    lambda s: asked.space is null
                    or s.name = asked.space
                    or s.model = asked.space
                    or s.name glob asked.space
                ),
                lambda s: s.sae_id
            )
        ],
        lambda found: if(
            asked.space is null or len(found) > 0,
            found,
            error(_no_sae(asked.space, asked.saes))::integer[]
        )
    )[1]
)[1];
