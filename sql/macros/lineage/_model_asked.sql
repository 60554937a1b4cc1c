-- True; an error unless the atlas holds a model of that name with SAEs.
create or replace macro _model_asked(model) as list_transform(
    [{'model': model::varchar, 'saes': _saes()}],
    lambda asked: if(
        list_contains(list_transform(asked.saes, lambda s: s.model), asked.model),
        true,
        error(_no_sae(coalesce(asked.model, 'null'), asked.saes))::boolean
    )
)[1];
