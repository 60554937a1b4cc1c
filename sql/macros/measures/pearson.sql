-- Pearson correlation of two activations from sufficient statistics; null if either is constant.
--
-- r = (n·Σab − Σa·Σb) / √((n·Σa² − (Σa)²)·(n·Σb² − (Σb)²)), the sums over all n units, tokens or
-- words, of which most hold zeros. With integer sums the three differences are exact
-- as long as n·Σa² stays below 10^38.
--
-- n: units in all
-- sum_a, sum_b: sums of each activation
-- sum_a2, sum_b2: sums of each activation's square
-- sum_ab: sum of the products
--
--     select pearson(4, 6, 6, 14, 14, 14)
create or replace macro pearson(n, sum_a, sum_b, sum_a2, sum_b2, sum_ab) as _cosine(
    -- 1::hugeint makes products of BIGINTs exact and leaves products of DOUBLEs what they are.
    (1::hugeint * n * sum_ab - 1::hugeint * sum_a * sum_b)::double,
    (1::hugeint * n * sum_a2 - 1::hugeint * sum_a * sum_a)::double,
    (1::hugeint * n * sum_b2 - 1::hugeint * sum_b * sum_b)::double
);
