-- Vectors have their SAE's width and finite numbers, and signatures length 1 (0 where nothing varies).
select
    vectors.feature_id,
    len(vectors.encoder) as n_encoder,
    len(vectors.decoder) as n_decoder,
    sqrt(array_inner_product(vectors.signature, vectors.signature)) as signature_norm
from vectors
join features using (feature_id)
join saes using (sae_id)
left join corpora on corpora.corpus_id = 0
where len(vectors.encoder) is distinct from saes.d_in
or len(vectors.decoder) is distinct from saes.d_out
or not coalesce(list_bool_and(list_transform(vectors.encoder, lambda x: isfinite(x))), false)
or not coalesce(list_bool_and(list_transform(vectors.decoder, lambda x: isfinite(x))), false)
or not coalesce(isfinite(vectors.encoder_bias), false)
or not coalesce(isfinite(vectors.threshold), true)
or (vectors.threshold is null) = (saes.activation in ('jumprelu', 'matching_pursuit'))
or (
    abs(
        array_inner_product(vectors.signature, vectors.signature)
        - if(
            corpora.n_words * features.word_sum_q2::hugeint
            > features.word_sum_q * features.word_sum_q::hugeint,
            1,
            0
        )
    ) < 1e-3
) is distinct from true
