-- Cosine of two features' decoder directions; null unless both live in one space (see sae_spaces).
--
-- Directions of different models live in different spaces, whatever their widths, and so do heads,
-- neurons and the residual stream of one model. All hook points on the residual stream share its
-- coordinates, so across layers the cosine has a meaning. For a crosscoder and an SAE, see
-- site_cosines.
--
-- feature_a, feature_b: name or id
--
--     select decoder_cosine('stdlib-a/1-resid_post/1', 'stdlib-a/3-resid_post/2')
create or replace macro decoder_cosine(feature_a, feature_b) as (
    with asked as (
        select
            feature_id(feature_a) as id_a,
            feature_id(feature_b) as id_b
    )
    select if(
        space_a.space = space_b.space,
        _cosine(
            list_inner_product(a.decoder::double[], b.decoder::double[]),
            list_inner_product(a.decoder::double[], a.decoder::double[]),
            list_inner_product(b.decoder::double[], b.decoder::double[])
        ),
        null
    )
    from asked
    join vectors as a on a.feature_id = asked.id_a
    join features as features_a on features_a.feature_id = asked.id_a
    join sae_spaces as space_a
        on space_a.sae_id = features_a.sae_id and space_a.measure = 'decoder'
    join vectors as b on b.feature_id = asked.id_b
    join features as features_b on features_b.feature_id = asked.id_b
    join sae_spaces as space_b
        on space_b.sae_id = features_b.sae_id and space_b.measure = 'decoder'
);
