-- How often A is active where B is: P(a | b); null if B never is.
--
-- n_both / n_b. Near 1, B does not fire without A.
--
-- n_b: units on which B is active
-- n_both: units on which both are
--
--     select necessity(10, 9)
create or replace macro necessity(n_b, n_both) as n_both::double / nullif(n_b::double, 0);
