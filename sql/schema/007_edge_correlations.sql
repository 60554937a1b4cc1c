-- Pearson's r is kept with each pair of linked features: most questions about edges ask for it.

-- over the units of the link, from the sums that are kept; null where an activation is constant
alter table coactivations add column pearson double;

update coactivations
set pearson = told.pearson
from (
    select
        sums.link_id,
        sums.feature_a,
        sums.feature_b,
        case
            when sums.square_a > 0 and sums.square_b > 0 then greatest(
                -1.0::double,
                least(1.0::double, sums.product / (sqrt(sums.square_a) * sqrt(sums.square_b)))
            )
        end as pearson
    from (
        select
            counted.*,
            (1::hugeint * n * sum_ab - 1::hugeint * sum_a * sum_b)::double as product,
            (1::hugeint * n * sum_a2 - 1::hugeint * sum_a * sum_a)::double as square_a,
            (1::hugeint * n * sum_b2 - 1::hugeint * sum_b * sum_b)::double as square_b
        from (
            select
                pairs.link_id,
                pairs.feature_a,
                pairs.feature_b,
                pairs.sum_ab,
                links.n,
                -- Sums choose a column without an if(), which ends DuckDB 2.0.0 below a filter.
                links.tokens * a.sum_q + links.words * a.word_sum_q as sum_a,
                links.tokens * b.sum_q + links.words * b.word_sum_q as sum_b,
                links.tokens * a.sum_q2 + links.words * a.word_sum_q2 as sum_a2,
                links.tokens * b.sum_q2 + links.words * b.word_sum_q2 as sum_b2
            from coactivations as pairs
            join (
                select
                    link_id,
                    n,
                    (over = 'tokens')::bigint as tokens,
                    (over != 'tokens')::bigint as words
                from links
            ) as links on links.link_id = pairs.link_id
            join features as a on a.feature_id = pairs.feature_a
            join features as b on b.feature_id = pairs.feature_b
        ) as counted
    ) as sums
) as told
where told.link_id = coactivations.link_id
and told.feature_a = coactivations.feature_a
and told.feature_b = coactivations.feature_b;
