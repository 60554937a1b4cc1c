-- Squared influence of one unit on Pearson's r: (u·v − r·(u² + v²)/2)²; its mean is n times r's variance.
--
-- u, v: the two activations there, standardised
create or replace macro _influence(u, v, r) as
    (u * v - r * (u * u + v * v) / 2) * (u * v - r * (u * u + v * v) / 2);
