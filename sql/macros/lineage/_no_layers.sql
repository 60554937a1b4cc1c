-- The sentence for a hook and variant of which a model has no SAE.
--
-- kinds: the hooks and variants that it has, as _layer_kinds has them
create or replace macro _no_layers(model, hook, variant, kinds) as
    model || ' has no SAE with ' || _hook_and_variant(hook, variant) || '; give '
    || array_to_string(kinds, ' or ') || '.';
