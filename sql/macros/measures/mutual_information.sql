-- Mutual information, in nats, of two features' being active or not; null for no units.
--
-- Σ over the four cells of p(a, b)·ln(p(a, b) / (p(a)·p(b))), with 0·ln 0 = 0: Shannon (1948). At
-- most ln 2; 0 if either feature is always or never active.
--
-- n: units in all
-- n_a, n_b: units on which each is active
-- n_both: units on which both are
--
--     select mutual_information(100, 50, 50, 50), ln(2)
create or replace macro mutual_information(n, n_a, n_b, n_both) as if(
    n > 0,
    greatest(
        (
            _information_cell(n, n_a, n_b, n_both)
            + _information_cell(n, n_a, n - n_b, n_a - n_both)
            + _information_cell(n, n - n_a, n_b, n_b - n_both)
            + _information_cell(n, n - n_a, n - n_b, n - n_a - n_b + n_both)
        ),
        0.0::double
    ),
    null
);
