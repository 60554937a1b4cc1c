-- The sentence for a feature that the atlas does not hold.
--
-- feature: what was asked for, as text
-- saes: `_saes()`
create or replace macro _no_feature(feature, saes) as case
    when len(saes) = 0 then
        'There is no feature ' || feature
        || ': this atlas holds no SAE yet; add a model with `atlas ingest`.'
    when regexp_full_match(feature, '-?[0-9]+') then
        'There is no feature with id ' || feature || ': ids go from 0 to '
        || list_max(list_transform(saes, lambda s: s.last)) || '.'
    when not regexp_full_match(feature, '.+/.+/[0-9]+') then
        '''' || feature || ''' is not a feature''s name; write MODEL/LAYER-HOOK/INDEX, such as '''
        || saes[1].name || '/0'', or an id.'
    when len(list_filter(saes, lambda s: starts_with(feature, s.name || '/'))) > 0 then
        'There is no feature ''' || feature || ''': this SAE''s features are numbered 0 to '
        || list_transform(
            list_filter(saes, lambda s: starts_with(feature, s.name || '/')),
            lambda s: s.last - s.first
        )[1]
        || '.'
    else
        _no_sae(regexp_extract(feature, '^(.*)/[0-9]+$', 1), saes)
end;
