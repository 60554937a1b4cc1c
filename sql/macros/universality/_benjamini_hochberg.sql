-- p-values, as a list, after Benjamini & Hochberg (1995): the false discovery rate q of each.
--
-- q of the k-th smallest of m is the least m·p / rank from there on up, at most 1. Nulls stay null and
-- do not count. The work is m², which families of tests, not of features, are small enough for.
create or replace macro _benjamini_hochberg(p_values) as list_transform(
    [list_sort(list_filter(p_values::double[], lambda p: p is not null))],
    lambda sorted: list_transform(
        [list_transform(sorted, lambda p, rank: len(sorted) * p / rank)],
        lambda raw: list_transform(
            p_values::double[],
            lambda p: if(
                p is null, null, least(1.0::double, list_min(raw[list_position(sorted, p):]))
            )
        )
    )[1]
)[1];
