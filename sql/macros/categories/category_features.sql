-- Features whose strongest words belong to a category, such as 'months', the surest first.
--
-- A feature belongs to a category if one of the words of the corpus on which it is most active is a
-- keyword of it (table `categories`; `atlas categories` lists them and adds your own): the rule of
-- Lan et al. (arXiv 2410.06981), over words instead of tokens, so that models with different
-- tokenizers meet. A phrase counts where its words follow each other. One such word may be chance:
-- of the 1,024 features of an SAE on a model with shuffled weights, 62 have an animal among their
-- five words, but none has three. So see that hits or share are high, or ask for `least := 3`.
-- hits: how many of the n strongest words are keywords; words: their forms, the strongest first
-- share: of the feature's activation on the whole corpus, what lies on those keywords that are among
-- its top words (table `word_stats`); phrases do not count in it
--
-- category: one category; null for all
-- within: name of a model or an SAE to keep to; null for everything
-- n: how many of a feature's strongest words to look at
-- least: how many of them must be keywords
--
--     from category_features('months')
--
--     select split_part(feature, '/', 1) as model, count(*) from category_features('time', least := 3) group by model
--
--     select s.sae, c.* from sae_cards as s, category_features('numbers', within := s.sae) as c
create or replace macro category_features(category := null, within := null, n := 5, least := 1) as table
with
members as materialized (
    select *
    from _category_hits(saes_in(within), n, least) as hit
    where category is null or hit.category = category
),
mass as (
    select
        members.category,
        members.feature_id,
        sum(word_stats.sum_q) as sum_q
    from members
    join word_stats on word_stats.feature_id = members.feature_id
    join categories
        on categories.category = members.category
        and categories.word = _folded(word_stats.form)
    group by members.category, members.feature_id
)
select
    members.category,
    saes.name || '/' || features.index as feature,
    members.hits,
    coalesce(mass.sum_q, 0) / features.word_sum_q as share,
    members.words,
    best_labels.label,
    members.feature_id
from members
join features on features.feature_id = members.feature_id
join saes on saes.sae_id = features.sae_id
left join mass
    on mass.category = members.category
    and mass.feature_id = members.feature_id
left join best_labels on best_labels.feature_id = members.feature_id
order by members.category, members.hits desc, share desc, members.feature_id;
