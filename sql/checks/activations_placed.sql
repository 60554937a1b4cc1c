-- Every activation is of a feature, on a token of its model's tokenizer.
select
    activations.feature_id,
    activations.token
from activations
left join features using (feature_id)
left join saes using (sae_id)
left join models using (model_id)
left join tokenizers using (tokenizer_id)
where (
    activations.token between tokenizers.first_token
    and tokenizers.first_token + tokenizers.n_tokens - 1
) is distinct from true
