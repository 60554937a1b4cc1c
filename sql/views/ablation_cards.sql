-- Edges whose upstream feature was ablated in the running model: association beside effect. One row per edge.
--
-- What `atlas lineage --causal` measured; of several measurements of an edge the newest. Ablating A
-- takes its part of its SAE's reconstruction out of the activations, everywhere in the context; what
-- the SAE does not reconstruct stays. The means are over the tokens, of sampled contexts, on which A
-- is active and B exceeds a hundredth of its maximum. (Balcells et al., arXiv 2410.08869, also
-- count tokens without A, where the effect is nearly nothing: theirs is about necessity × effect.)
-- mean_before, mean_after: activation of B in the model as it is and without A, in its SAE's units
-- effect: mean_before - mean_after; below zero where A holds B down
-- share: effect / mean_before, which compares across SAEs
-- pearson … n_both: as in edges; decoder_cosine: null unless both directions live in one space
--
--     select feature_a, feature_b, pearson, effect, share from ablation_cards order by share desc
--
--     from ablation_cards where pearson > 0.5 and share < 0.05
create or replace view ablation_cards as
with
newest as (
    from ablations
    qualify row_number() over (partition by feature_a, feature_b order by run_id desc) = 1
),
-- More than the edges wanted, but found by each feature's place in the table.
associated as (
    from edges
    where feature_id_a in (select feature_a from ablations)
    and feature_id_b in (select feature_b from ablations)
    and over = 'tokens'
)
select
    a.name || '/' || (newest.feature_a - a.first_feature_id) as feature_a,
    b.name || '/' || (newest.feature_b - b.first_feature_id) as feature_b,
    newest.effect,
    newest.effect / nullif(newest.mean_before, 0) as share,
    newest.mean_before,
    newest.mean_after,
    newest.n_tokens,
    associated.pearson,
    associated.jaccard,
    associated.sufficiency,
    associated.necessity,
    associated.mutual_information,
    associated.activation_cosine,
    if(
        space_a.space = space_b.space,
        _cosine(
            list_inner_product(vector_a.decoder::double[], vector_b.decoder::double[]),
            list_inner_product(vector_a.decoder::double[], vector_a.decoder::double[]),
            list_inner_product(vector_b.decoder::double[], vector_b.decoder::double[])
        ),
        null
    ) as decoder_cosine,
    associated.n_both,
    models.name as model,
    a.name as sae_a,
    b.name as sae_b,
    a.layer as layer_a,
    b.layer as layer_b,
    newest.feature_a as feature_id_a,
    newest.feature_b as feature_id_b,
    newest.run_id
from newest
join features as features_a on features_a.feature_id = newest.feature_a
join features as features_b on features_b.feature_id = newest.feature_b
join saes as a on a.sae_id = features_a.sae_id
join saes as b on b.sae_id = features_b.sae_id
join models on models.model_id = a.model_id
join vectors as vector_a on vector_a.feature_id = newest.feature_a
join vectors as vector_b on vector_b.feature_id = newest.feature_b
join sae_spaces as space_a on space_a.sae_id = a.sae_id and space_a.measure = 'decoder'
join sae_spaces as space_b on space_b.sae_id = b.sae_id and space_b.measure = 'decoder'
left join associated
    on associated.feature_id_a = newest.feature_a
    and associated.feature_id_b = newest.feature_b;
