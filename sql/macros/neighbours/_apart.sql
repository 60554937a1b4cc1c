-- The sentence for directions sought where nothing lives in their space.
--
-- within: name of a model or an SAE; measure: 'encoder' or 'decoder'; space: theirs
create or replace macro _apart(within, measure, space) as
    'Directions compare within one space: ''' || within || ''' has no ' || measure || 's in '''
    || space || ''' (see sae_spaces; for crosscoders similar_at); leave `within` out,'
    || ' or compare by activation.';
