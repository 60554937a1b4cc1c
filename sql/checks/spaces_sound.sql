-- Directions of one space have one width, the model's where the space is its residual stream.
select
    spaces.sae_id,
    spaces.sae,
    spaces.measure,
    spaces.space,
    spaces.width
from sae_spaces as spaces
left join models on spaces.space = models.name || '/residual'
qualify spaces.width is distinct from coalesce(
    models.d_model,
    mode(spaces.width) over (partition by spaces.measure, spaces.space)
)
