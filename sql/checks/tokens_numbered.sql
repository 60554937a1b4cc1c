-- A tokenizer's tokens are numbered without gaps, document by document, positions from 0.
select
    token,
    document_id,
    position
from (
    select
        tokens.token,
        tokens.document_id,
        tokens.position,
        tokenizers.first_token,
        lag(tokens.token) over by_token as token_before,
        lag(tokens.document_id) over by_token as document_before,
        lag(tokens.position) over by_token as position_before
    from tokens
    left join tokenizers
        on tokens.token between tokenizers.first_token
        and tokenizers.first_token + tokenizers.n_tokens - 1
    window by_token as (partition by tokenizers.tokenizer_id order by tokens.token)
)
where token is distinct from coalesce(token_before + 1, first_token)
or document_id < document_before
or position is distinct from if(document_id = document_before, position_before + 1, 0)
