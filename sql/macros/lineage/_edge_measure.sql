-- The measure of that name, from the sums of two features and their joint ones.
--
-- Sums as doubles: of hugeints, which edges computes with, r takes three times as long, and differs
-- in the last digits alone.
create or replace macro _edge_measure(
    measure, n, n_a, n_b, n_both, sum_a, sum_b, sum_a2, sum_b2, sum_ab
) as case measure
    when 'pearson' then pearson(n, sum_a, sum_b, sum_a2, sum_b2, sum_ab)
    when 'jaccard' then jaccard(n_a, n_b, n_both)
    when 'sufficiency' then sufficiency(n_a, n_both)
    when 'necessity' then necessity(n_b, n_both)
    when 'mutual_information' then mutual_information(n, n_a, n_b, n_both)
    when 'activation_cosine' then activation_cosine(sum_a2, sum_b2, sum_ab)
end;
