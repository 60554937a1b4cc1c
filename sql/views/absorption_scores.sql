-- What becomes of first letters in an SAE: main features, and those that absorb. One row per (SAE, letter).
--
-- A feature for 'begins with s' may stay silent on "short" because the feature for that word carries
-- the letter too: absorption (Chanin et al. 2024, arXiv 2409.14507). On the first tokens of words
-- that begin with the letter, some occurrences of each form:
--
-- p: the direction of a logistic regression on y, fitted on half of the word forms; letters that it
-- does not find in the other half with F1 above .6 have no row
-- main_features: the feature whose mean activation rises most on the letter, and further ones, up to
-- 10, while each adds .03 to the F1 of a probe on them (feature splitting)
-- t: (y − ŷ₀)·p, what the features have to make up in a word, ŷ₀ being ŷ with none active; feature j
-- contributes its activation times d_j·p; it is aligned with p if the cosine is above 3 / √d
--
-- n_words: words of the unseen half in which the regression finds the letter
-- full_share: share of them where no main feature is active and the largest contribution is of an
-- aligned feature and at least .4 t
-- absorbers: these features, most often first
-- fraction: mean of B / (B + M), M the main features' contribution and B what the three largest of
-- other aligned ones (A) make up of t − M; 0 where M ≥ t or A < .4 t, and 1 where M ≤ 0
-- main_f1, probe_f1: of the probe on the main features, and of the regression
--
--     select sae, letter, full_share, main_features, absorbers from absorption_scores order by full_share desc
create or replace view absorption_scores as
select
    saes.name as sae,
    absorptions.letter,
    absorptions.full_share,
    absorptions.fraction,
    list_transform(absorptions.main, lambda i: saes.name || '/' || i) as main_features,
    list_transform(absorptions.absorbers, lambda i: saes.name || '/' || i) as absorbers,
    absorptions.main_f1,
    absorptions.probe_f1,
    absorptions.n_words,
    saes.sae_id
from absorptions
join saes on saes.sae_id = absorptions.sae_id;
