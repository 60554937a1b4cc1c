-- Name of an SAE, `model/layer-hook[-variant]`, given by its id or its name.
--
-- sae: id or name; null gives null
--
--     select sae_name(0)
create or replace macro sae_name(sae) as list_transform(
    [{'id': sae_id(sae), 'saes': _saes()}],
    lambda asked: list_transform(
        list_filter(asked.saes, lambda s: s.sae_id = asked.id), lambda s: s.name
    )[1]
)[1];
