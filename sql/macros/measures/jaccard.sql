-- Jaccard index of the units on which two features are active; null if both never are.
--
-- |A ∩ B| / |A ∪ B| = n_both / (n_a + n_b − n_both), after P. Jaccard, Bull. Soc. Vaud. 37 (1901).
--
-- n_a, n_b: units on which each is active
-- n_both: units on which both are
--
--     select jaccard(10, 10, 5)
create or replace macro jaccard(n_a, n_b, n_both) as
    n_both::double / nullif(n_a::double + n_b::double - n_both::double, 0);
