-- The sentence for an SAE or a model that the atlas does not hold: tells the nearest names.
--
-- sae: what was asked for, as text
-- saes: `_saes()`
create or replace macro _no_sae(sae, saes) as
    'There is no ''' || sae || ''' in this atlas; '
    || case
        when len(saes) = 0 then 'it holds no SAE yet: add a model with `atlas ingest`'
        else
            'its SAEs are ' || list_aggregate(
                list_transform(
                    list_sort(
                        list_transform(
                            saes, lambda s: {'far': levenshtein(s.name, sae), 'name': s.name}
                        )
                    )[:6],
                    lambda s: s.name
                ),
                'string_agg',
                ', '
            )
            || if(len(saes) > 6, ' and ' || (len(saes) - 6) || ' more (see `from sae_cards`)', '')
    end
    || '.';
