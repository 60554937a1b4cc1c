-- How well a few features tell properties of tokens: k-sparse probes. One row per (SAE, property, k).
--
-- The k features whose mean activation, in units of their decoder direction's length, differs most
-- between tokens with and without the property, and a logistic regression on them; both chosen on
-- the 'explain' documents, scored on the 'score' documents (Gurnee et al. 2023, arXiv 2305.01610).
-- A property has probes where both splits hold at least 50 tokens with it, and without it.
--
-- property:
-- first_of_word, last_of_word: of the tokens of its word
-- capital: the first visible character is upper-case
-- digit: a digit is among the characters
-- punctuation: punctuation is among the characters, and no letter or digit
-- line_break: a line break is among the characters
-- next_capital, next_digit, next_punctuation, next_line_break: the next token of the document is so
-- early_in_document: one of the first 16 tokens
-- late_in_context: in the second half of the tokens that the model can see together
--
-- share: of the scored tokens, those with the property
-- balanced_accuracy: mean of the shares of tokens with and without it that are told right; a guess: .5
-- f1: at the threshold that is best on the 'explain' documents; a guess: 2 share / (1 + share)
-- auc: chance that a token with the property scores above one without; a guess: .5
-- features: names, the most telling first
--
--     select sae, property, f1, features[1] as feature from probe_scores where k = 1 order by f1 desc
create or replace view probe_scores as
select
    saes.name as sae,
    probes.property,
    probes.k,
    probes.n_positive / probes.n_tokens as share,
    probes.balanced_accuracy,
    probes.f1,
    probes.auc,
    list_transform(probes.features, lambda i: saes.name || '/' || i) as features,
    probes.n_tokens,
    saes.sae_id
from probes
join saes on saes.sae_id = probes.sae_id;
