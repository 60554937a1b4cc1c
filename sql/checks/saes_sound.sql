-- An SAE's scale is a power of two, its biases have its width, and its numbers are finite.
select
    saes.sae_id,
    saes.name,
    saes.scale,
    saes.input_scale
from saes
join models using (model_id)
where (saes.scale > 0 and log2(saes.scale) = round(log2(saes.scale))) is distinct from true
or (saes.input_scale > 0 and isfinite(saes.input_scale)) is distinct from true
or len(saes.pre_bias) is distinct from saes.d_in
or len(saes.b_dec) is distinct from models.d_model
or not coalesce(list_bool_and(list_transform(saes.pre_bias, lambda x: isfinite(x))), false)
or not coalesce(list_bool_and(list_transform(saes.b_dec, lambda x: isfinite(x))), false)
