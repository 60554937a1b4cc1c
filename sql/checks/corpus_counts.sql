-- The corpus and the tokenizers count what is there.
select
    counted.what,
    counted.stated,
    counted.found
from (
    select 'documents' as what, n_documents as stated, (select count(*) from documents) as found
    from corpora where corpus_id = 0
    union all
    select 'characters', n_characters, (select coalesce(sum(len(text)), 0) from documents)
    from corpora where corpus_id = 0
    union all
    select 'words', n_words, (select count(*) from words)
    from corpora where corpus_id = 0
    union all
    select 'tokens', sum(n_tokens), (select count(*) from tokens) from tokenizers
    having count(*) > 0
    union all
    select
        'tokens of ' || tokenizers.name,
        tokenizers.n_tokens,
        count(tokens.token)
    from tokenizers
    left join tokens
        on tokens.token between tokenizers.first_token
        and tokenizers.first_token + tokenizers.n_tokens - 1
    group by tokenizers.tokenizer_id, tokenizers.name, tokenizers.n_tokens
    union all
    select
        'vocabulary of ' || tokenizers.name,
        tokenizers.n_vocab,
        count(vocabulary.token_id)
    from tokenizers
    left join vocabulary using (tokenizer_id)
    group by tokenizers.tokenizer_id, tokenizers.name, tokenizers.n_vocab
) as counted
where counted.stated is distinct from counted.found
