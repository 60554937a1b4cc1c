-- product / √(square_a·square_b), kept within −1 and 1; null unless both squares are positive.
--
-- The case is spelled out because least() and greatest() skip nulls.
create or replace macro _cosine(product, square_a, square_b) as case
    when square_a > 0 and square_b > 0 then
        greatest(-1.0::double, least(1.0::double, product / (sqrt(square_a) * sqrt(square_b))))
end;
