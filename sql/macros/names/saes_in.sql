-- Ids of the SAEs that a name covers, as a list: of one SAE, of all SAEs of a model, or of all.
--
-- space: name of an SAE or of a model; null stands for the whole atlas
--
--     from sae_cards where list_contains(saes_in('stdlib-a'), sae_id)
create or replace macro saes_in(space) as list_transform(
    [{'space': space::varchar, 'saes': _saes()}],
    lambda asked: case
        when asked.space is null
        or list_contains(list_transform(asked.saes, lambda s: s.name), asked.space)
        or list_contains(list_transform(asked.saes, lambda s: s.model), asked.space) then
            list_transform(
                list_filter(
                    asked.saes,
                    lambda s: asked.space is null or s.name = asked.space or s.model = asked.space
                ),
                lambda s: s.sae_id
            )
        else
            error(_no_sae(asked.space, asked.saes))::integer[]
    end
)[1];
