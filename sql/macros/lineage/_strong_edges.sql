-- Edges of neighbouring layers that are at least so strong, for all features. One row per edge.
create or replace macro _strong_edges(measure, at_least, strong) as table
from _layer_edges(measure, strong)
where edge >= at_least;
