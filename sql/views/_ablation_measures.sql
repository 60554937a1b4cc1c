-- Ablated edges with each measure by its name. One row per (edge, measure).
create or replace view _ablation_measures as
unpivot (
    select
        sae_a,
        model,
        feature_id_a,
        feature_id_b,
        effect,
        share,
        pearson,
        jaccard,
        sufficiency,
        necessity,
        mutual_information,
        activation_cosine,
        decoder_cosine
    from ablation_cards
    where effect is not null
)
on pearson, jaccard, sufficiency, necessity, mutual_information, activation_cosine, decoder_cosine
into name measure value value;
