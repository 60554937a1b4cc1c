-- How often B is active where A is: P(b | a); null if A never is.
--
-- n_both / n_a. Near 1, A's firing is enough for B's.
--
-- n_a: units on which A is active
-- n_both: units on which both are
--
--     select sufficiency(10, 9)
create or replace macro sufficiency(n_a, n_both) as n_both::double / nullif(n_a::double, 0);
