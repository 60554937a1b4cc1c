-- An SAE's scale is a power of two, its biases have its widths, and its numbers are finite.
select
    saes.sae_id,
    saes.name,
    saes.scale,
    saes.input_scale
from saes
where (saes.scale > 0 and log2(saes.scale) = round(log2(saes.scale))) is distinct from true
or (saes.input_scale > 0 and isfinite(saes.input_scale)) is distinct from true
or len(saes.pre_bias) is distinct from saes.d_in
or (saes.output_scale > 0 and isfinite(saes.output_scale)) is distinct from true
or len(saes.b_dec) is distinct from saes.d_out
or (
    saes.activation in ('relu', 'jumprelu', 'topk', 'switch', 'groupmax', 'matching_pursuit')
) is distinct from true
or (saes.normalize in ('none', 'layer_norm', 'constant_norm')) is distinct from true
or (saes.activation not in ('relu', 'jumprelu') and saes.k is null)
or not coalesce(list_bool_and(list_transform(saes.pre_bias, lambda x: isfinite(x))), false)
or not coalesce(list_bool_and(list_transform(saes.b_dec, lambda x: isfinite(x))), false)
