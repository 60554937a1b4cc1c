-- Name of a feature, `model/layer-hook[-variant]/index`, given by its id or its name.
--
-- For a whole column of ids, joining the view feature_names is faster.
--
-- feature: id or name; null gives null
--
--     select feature_name(12)
create or replace macro feature_name(feature) as list_transform(
    [{'id': feature_id(feature), 'saes': _saes()}],
    lambda asked: list_transform(
        list_filter(asked.saes, lambda s: asked.id between s.first and s.last),
        lambda s: s.name || '/' || (asked.id - s.first)
    )[1]
)[1];
