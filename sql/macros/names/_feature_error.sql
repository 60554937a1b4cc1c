-- The sentence for a feature that the atlas does not hold.
create or replace macro _feature_error(feature) as case
    when len(_saes()) = 0 then
        'There is no feature ' || feature || ': this atlas holds no SAE yet; add a model with `atlas ingest`.'
    when regexp_full_match(feature, '-?[0-9]+') then
        'There is no feature with id ' || feature || ': ids go from 0 to ' || _saes()[-1].last || '.'
    when not regexp_full_match(feature, '.+/.+/[0-9]+') then
        '''' || feature || ''' is not a feature''s name; write MODEL/LAYER-HOOK/INDEX, such as '''
        || _saes()[1].name || '/0'', or an id.'
    when sae_exists(regexp_extract(feature, '^(.*)/[0-9]+$', 1)) then
        'There is no feature ''' || feature || ''': the features of this SAE are numbered 0 to '
        || 9
    else
        'There is no SAE ''' 
end;
