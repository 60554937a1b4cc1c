-- True; an error unless the measure is one of edges, and at_least and depth can be kept to.
create or replace macro _edges_asked(measure, at_least, depth) as case
    when not coalesce(at_least >= 0, false) then
        error(
            'at_least is the least value that makes an edge, 0 or more, not '
            || coalesce(at_least::varchar, 'null') || '.'
        )::boolean
    when depth < 1 then
        error('depth is the number of steps, at least 1 or null, not ' || depth || '.')::boolean
    else _known_measure(measure) is not null
end;
