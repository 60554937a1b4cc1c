-- A link is of two SAEs, once over the units both have, upstream first, and counts units and pairs.
with counted as (
    select
        link_id,
        count(*) as n_pairs
    from coactivations
    group by link_id
)
select
    links.link_id,
    links.sae_a,
    links.sae_b,
    links.over,
    links.min_joint,
    links.n,
    links.n_pairs,
    coalesce(counted.n_pairs, 0) as n_pairs_found
from links
left join counted on counted.link_id = links.link_id
left join saes as a on a.sae_id = links.sae_a
left join saes as b on b.sae_id = links.sae_b
left join models as model_a on model_a.model_id = a.model_id
left join models as model_b on model_b.model_id = b.model_id
left join tokenizers on tokenizers.tokenizer_id = model_a.tokenizer_id
left join corpora on corpora.corpus_id = 0
left join runs on runs.run_id = links.run_id
where (links.sae_a != links.sae_b) is distinct from true
or (a.model_id != b.model_id or a.layer <= b.layer) is distinct from true
or links.over is distinct from if(model_a.tokenizer_id = model_b.tokenizer_id, 'tokens', 'words')
or links.n is distinct from if(links.over = 'tokens', tokenizers.n_tokens, corpora.n_words)
or (links.min_joint >= 1) is distinct from true
or links.n_pairs is distinct from coalesce(counted.n_pairs, 0)
or runs.status is distinct from 'done'
or (
    select count(*)
    from links as same
    where same.link_id = links.link_id
    or list_sort([same.sae_a, same.sae_b]) = list_sort([links.sae_a, links.sae_b])
) > 1
