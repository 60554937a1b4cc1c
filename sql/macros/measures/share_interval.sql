-- Confidence interval of a share, k of n: a struct of low and high; null for n = 0.
--
-- Wilson's score interval, J. Am. Stat. Assoc. 22 (1927): (k + z²/2 ± z·√(k·(n − k)/n + z²/4)) /
-- (n + z²), z being the normal quantile. It keeps within 0 and 1, and is right for shares near them.
-- Sufficiency is n_both of n_a, necessity n_both of n_b, and the Jaccard index n_both of
-- n_a + n_b − n_both: among units on which either is active, those on which both are. Units are taken
-- as independent; where firings come in runs within a text, the truth is wider.
--
-- k, n: how many of how many
-- confidence: share of such intervals that hold the true share
--
--     select share_interval(9, 10), share_interval(5, 10 + 10 - 5, confidence := 0.99)
create or replace macro share_interval(k, n, confidence := 0.95) as list_transform(
    [{'k': k::double, 'n': n::double, 'z': _normal_quantile((1 + confidence::double) / 2)}],
    lambda g: if(
        g.n > 0,
        {
            'low': if(
                g.k <= 0,
                0.0::double,
                (g.k + g.z * g.z / 2 - g.z * sqrt(g.k * (g.n - g.k) / g.n + g.z * g.z / 4))
                / (g.n + g.z * g.z)
            ),
            'high': if(
                g.k >= g.n,
                1.0::double,
                (g.k + g.z * g.z / 2 + g.z * sqrt(g.k * (g.n - g.k) / g.n + g.z * g.z / 4))
                / (g.n + g.z * g.z)
            )
        },
        null
    )
)[1];
