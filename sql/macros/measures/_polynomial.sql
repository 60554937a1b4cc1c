-- The polynomial at x with these coefficients, that of the highest power first: Horner's rule.
create or replace macro _polynomial(x, coefficients) as list_reduce(
    coefficients::double[],
    lambda value, coefficient: value * x + coefficient
);
