-- The measure of that name, from the sums of two features and their joint ones; Pearson's r is stored.
create or replace macro _edge_measure(
    measure, n, n_a, n_b, n_both, sum_a2, sum_b2, sum_ab
) as case measure
    when 'jaccard' then jaccard(n_a, n_b, n_both)
    when 'sufficiency' then sufficiency(n_a, n_both)
    when 'necessity' then necessity(n_b, n_both)
    when 'mutual_information' then mutual_information(n, n_a, n_b, n_both)
    when 'activation_cosine' then activation_cosine(sum_a2, sum_b2, sum_ab)
end;
