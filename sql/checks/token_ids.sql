-- Token ids are in the vocabulary, which counts their occurrences.
with found as (
    select
        tokenizers.tokenizer_id,
        tokens.token_id,
        count(*) as n_tokens
    from tokens
    join tokenizers
        on tokens.token between tokenizers.first_token
        and tokenizers.first_token + tokenizers.n_tokens - 1
    group by tokenizers.tokenizer_id, tokens.token_id
)
select
    tokenizer_id,
    token_id,
    vocabulary.n_tokens,
    found.n_tokens as n_tokens_found
from vocabulary
full join found using (tokenizer_id, token_id)
left join tokenizers using (tokenizer_id)
where vocabulary.n_tokens is distinct from coalesce(found.n_tokens, 0)
or vocabulary.text is null
or (token_id between 0 and tokenizers.n_vocab - 1) is distinct from true
