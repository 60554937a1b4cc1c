-- All SAEs as one list of structs, by id: what names are looked up in without a correlated subquery.
create or replace macro _saes() as (
    select coalesce(
        list(
            {
                'name': saes.name,
                'model': models.name,
                'sae_id': saes.sae_id,
                'model_id': saes.model_id,
                'first': saes.first_feature_id,
                'last': saes.first_feature_id + saes.d_sae - 1
            }
            order by saes.sae_id
        ),
        []
    )
    from saes
    join models using (model_id)
);
