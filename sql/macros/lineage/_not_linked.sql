-- The sentence for two SAEs whose features' joint activity is not stored.
create or replace macro _not_linked(sae_a, sae_b) as
    sae_a || ' and ' || sae_b || ' are not linked; run `atlas link ATLAS ' || sae_a || ' ' || sae_b
    || '`.';
