-- Cosine of two features' decoder directions; null unless both are of one model.
--
-- Directions of different models live in different spaces, whatever their widths. All hook points
-- of one model read and write its residual stream, so across layers the cosine has a meaning.
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
        saes_a.model_id = saes_b.model_id and len(a.decoder) = len(b.decoder),
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
    join saes as saes_a on saes_a.sae_id = features_a.sae_id
    join vectors as b on b.feature_id = asked.id_b
    join features as features_b on features_b.feature_id = asked.id_b
    join saes as saes_b on saes_b.sae_id = features_b.sae_id
);
