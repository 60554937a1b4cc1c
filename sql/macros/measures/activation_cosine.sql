-- Cosine of two activations over all units; null if either never fires.
--
-- Σab / √(Σa²·Σb²): like pearson without centring, so two dense features look alike by it.
--
-- sum_a2, sum_b2: sums of each activation's square
-- sum_ab: sum of the products
--
--     select activation_cosine(14, 14, 14)
create or replace macro activation_cosine(sum_a2, sum_b2, sum_ab) as
    _cosine(sum_ab::double, sum_a2::double, sum_b2::double);
