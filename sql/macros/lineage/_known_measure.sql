-- The measure itself; an error unless it is one that edges have.
create or replace macro _known_measure(measure) as if(
    coalesce(
        list_contains(
            [
                'pearson', 'jaccard', 'sufficiency', 'necessity', 'mutual_information',
                'activation_cosine'
            ],
            measure
        ),
        false
    ),
    measure,
    error(
        'measure is ''pearson'', ''jaccard'', ''sufficiency'', ''necessity'','
        || ' ''mutual_information'' or ''activation_cosine'', not '
        || coalesce('''' || measure || '''', 'null') || '.'
    )::varchar
);
