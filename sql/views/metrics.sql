-- What each metric of an SAE means, with the version that its values have today. One row per metric.
--
-- An SAE stands for y, the model's activation at its output, with ŷ made from x, the activation at
-- its input: one and the same but in transcoders. Both are in the model's own units. Sums and means
-- run over the n tokens of the reference corpus, unless stated; BOS and padding count nowhere. The
-- metrics of a crosscoder take its hook points side by side as one activation. Those of one over
-- several models with different tokenizers run over the n words that all of them have read at a
-- token's end, in the place of the tokens: see `tokens`. What its models lose they lose by ŷ at
-- those words alone, in the predictions of all their tokens.
--
-- topic: 'sparsity', 'fidelity' (ŷ against y), 'model' (what the language model loses), 'decoder',
-- 'probing' (see probe_scores) or 'absorption' (see absorption_scores)
-- better: 'higher', 'lower' or 'neither'
-- version: raised when a name comes to mean another number; sae_metrics tells the one of each value
-- source: where the metric comes from, and what others call it
--
--     select metric, better, definition from metrics where topic = 'fidelity'
--
--     select sae_metrics.* from sae_metrics join metrics using (metric)
--     where sae_metrics.version < metrics.version
create or replace view metrics as
select
    metric,
    topic,
    better,
    version,
    definition,
    source
from (
    values
    (
        'l0', 'sparsity', 'neither', 1,
        'mean number of features active on a token',
        'every library'
    ),
    (
        'dead_share', 'sparsity', 'lower', 1,
        'share of features active on no token',
        'dictionary_learning: 1 − frac_alive'
    ),
    (
        'dense_share', 'sparsity', 'lower', 1,
        'share of features active on more than a tenth of the tokens',
        'the threshold of SAEBench'
    ),
    (
        'tokens', 'sparsity', 'neither', 1,
        'n: how many tokens these metrics and those of fidelity are taken over; fewer than the corpus '
        || 'has only where models with different tokenizers meet on words',
        'the atlas'
    ),
    (
        'explained_variance', 'fidelity', 'higher', 1,
        '1 − Σ‖y − ŷ‖² / Σ‖y − ȳ‖², ȳ the mean of y over all tokens',
        'SAELens 6.54: explained_variance'
    ),
    (
        'explained_variance_per_token', 'fidelity', 'higher', 1,
        'mean over tokens of 1 − ‖y − ŷ‖² / ‖y − ȳ‖², ȳ the mean of y over the token''s batch of '
        || 'some 2,048 tokens; batches of fewer than 32 are left out',
        'SAELens 6.54: explained_variance_legacy; what older versions and SAEBench report as '
        || 'explained_variance'
    ),
    (
        'explained_variance_centred', 'fidelity', 'higher', 1,
        '1 − Σ‖e − ē‖² / Σ‖y − ȳ‖², e = y − ŷ and ē its mean: a constant error costs nothing',
        'dictionary_learning 0.1: frac_variance_explained, there a mean over batches'
    ),
    (
        'fvu', 'fidelity', 'lower', 1,
        '1 − explained_variance: the share of variance left unexplained',
        'sparsify 1.3: fvu, there a mean over batches'
    ),
    (
        'mse', 'fidelity', 'lower', 1,
        'Σ‖y − ŷ‖² / (n d), d the length of y',
        'SAELens 6.54 reports d times this'
    ),
    (
        'cosine', 'fidelity', 'higher', 1,
        'mean over tokens of y·ŷ / (‖y‖ ‖ŷ‖), 0 where either is zero',
        'SAELens: cossim'
    ),
    (
        'l2_ratio', 'fidelity', 'neither', 1,
        'mean of ‖ŷ‖ / ‖y‖ over the tokens where y is not zero; below 1 where activations shrink',
        'SAELens, dictionary_learning: l2_ratio'
    ),
    (
        'relative_reconstruction_bias', 'fidelity', 'neither', 1,
        'Σ‖ŷ‖² / Σ y·ŷ: below 1 where ŷ shrinks, 1 where no factor could improve it; absent where '
        || 'Σ y·ŷ is not positive',
        'Rajamanoharan et al. 2024a (Gated SAEs, arXiv 2404.16014), eq. 10'
    ),
    (
        'ce', 'model', 'neither', 1,
        'the model''s mean cross entropy of the next token in nats, over ce_tokens predictions; absent, '
        || 'like all of this topic, for a model that does not predict the next token',
        'every library'
    ),
    (
        'ce_spliced', 'model', 'lower', 1,
        'ce with ŷ in the place of y; of several outputs the mean, each spliced alone',
        'SAELens: ce_loss_with_sae'
    ),
    (
        'ce_zero', 'model', 'neither', 1,
        'ce with zeros in the place of y, BOS left as the model makes it',
        'SAELens: ce_loss_with_ablation'
    ),
    (
        'ce_recovered', 'model', 'higher', 1,
        '(ce_zero − ce_spliced) / (ce_zero − ce): 1 is perfect; absent where zeros do no harm',
        'SAELens: ce_loss_score; dictionary_learning: frac_recovered'
    ),
    (
        'kl', 'model', 'lower', 1,
        'mean over ce_tokens predictions of KL(p ‖ p̂) in nats, p the model''s distribution of the next '
        || 'token and p̂ the one with ŷ in the place of y',
        'SAELens: kl_div_with_sae'
    ),
    (
        'ce_tokens', 'model', 'neither', 1,
        'how many predictions ce and the like average, in contexts spread evenly over the corpus',
        'the atlas'
    ),
    (
        'decoder_max_cosine', 'decoder', 'neither', 1,
        'mean over features of vectors.max_cosine, the largest cosine of its decoder direction to that '
        || 'of another feature of the SAE',
        'the decoder geometry of Shu et al. 2025 (arXiv 2503.05613)'
    ),
    (
        'decoder_near_share', 'decoder', 'lower', 1,
        'share of features whose vectors.max_cosine is above .7',
        'as decoder_max_cosine'
    ),
    (
        'sparse_probing_k1', 'probing', 'higher', 1,
        'mean balanced accuracy of 1-sparse probes over the properties of tokens that are frequent '
        || 'enough; a guess has .5; compares within a tokenizer',
        'Gurnee et al. 2023 (arXiv 2305.01610); SAEBench, on other tasks'
    ),
    (
        'sparse_probing_k5', 'probing', 'higher', 1,
        'as sparse_probing_k1, with 5 features',
        'as sparse_probing_k1'
    ),
    (
        'sparse_probing_k16', 'probing', 'higher', 1,
        'as sparse_probing_k1, with 16 features',
        'as sparse_probing_k1'
    ),
    (
        'absorption_full', 'absorption', 'lower', 1,
        'mean over letters of the share of words with full absorption: the letter''s main features '
        || 'do not fire, and another carries its direction; absent where the model knows fewer than 5 '
        || 'letters there',
        'Chanin et al. 2024 (arXiv 2409.14507); SAEBench: mean_full_absorption_score'
    ),
    (
        'absorption_fraction', 'absorption', 'lower', 1,
        'mean over letters of the mean share of the letter''s direction that other features carry in '
        || 'the place of the main ones',
        'SAEBench: mean_absorption_fraction_score'
    ),
    (
        'absorption_splits', 'absorption', 'lower', 1,
        'mean over letters of the number of main features, from 1 to 10',
        'SAEBench: 1 + mean_num_split_features'
    ),
    (
        'absorption_main_f1', 'absorption', 'higher', 1,
        'mean over letters of the F1 with which the main features tell the letter: where it is low, '
        || 'there is little to absorb',
        'the atlas'
    ),
    (
        'absorption_letters', 'absorption', 'neither', 1,
        'how many letters the other metrics of absorption average: those that a linear probe of y '
        || 'finds with F1 above .6 in words it has not seen',
        'SAEBench, which wants 20'
    )
) as defined (metric, topic, better, version, definition, source);
