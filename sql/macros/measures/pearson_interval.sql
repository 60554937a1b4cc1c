-- Confidence interval of a Pearson correlation: a struct of low and high; null for n_effective <= 3.
--
-- tanh(artanh r ± z / √(n_effective − 3)), z being the normal quantile: R. A. Fisher, Metron 1
-- (1921). It holds for n_effective independent pairs of normal variables. Activations are neither:
-- nearly all units hold two zeros and tell nothing. Give the units on which either feature is active,
-- n_a + n_b − n_both, as edge() does, never n. Where firings come in runs within a text, the truth is
-- wider still.
--
-- r: the correlation
-- n_effective: independent units that it rests on
-- confidence: share of such intervals that hold the true correlation
--
--     select pearson_interval(0.9, 50)
create or replace macro pearson_interval(r, n_effective, confidence := 0.95) as list_transform(
    [{'r': r::double, 'n': n_effective::double, 'z': _normal_quantile((1 + confidence::double) / 2)}],
    lambda g: case
        when g.r is null or (g.n > 3) is distinct from true then
            null
        when abs(g.r) >= 1 then
            {'low': g.r, 'high': g.r}
        else
            {
                'low': tanh(atanh(g.r) - g.z / sqrt(g.n - 3)),
                'high': tanh(atanh(g.r) + g.z / sqrt(g.n - 3))
            }
    end
)[1];
