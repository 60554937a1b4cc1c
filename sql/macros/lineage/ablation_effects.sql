-- Effect of ablating the upstream feature by how strongly features are associated. One row per bin.
--
-- at_least, below: values of the measure between which a bin lies, the last one's end included
-- n_edges: ablated edges in the bin
-- effect, share: means of these columns of ablation_cards; effect_error, share_error: their standard
-- errors, null for a single edge
--
-- measure: 'pearson', 'jaccard', 'sufficiency', 'necessity', 'mutual_information',
-- 'activation_cosine' or 'decoder_cosine'
-- space: name of an SAE or of a model, or a pattern of SAEs' names, of the upstream features; null
-- for all
-- bin_width: of the bins, from 0 on
--
--     from ablation_effects()
--
--     select at_least, n_edges, share from ablation_effects('sufficiency', bin_width := 0.2)
create or replace macro ablation_effects(
    measure := 'pearson', space := null, bin_width := 0.1::double
) as table
with binned as (
    select
        _ablation_measures.effect,
        _ablation_measures.share,
        -- 1 is in the last bin below it, and .3 in that which begins there, whatever .3 / .1 is.
        floor(
            least(_ablation_measures.value, 1 - bin_width / 2) / bin_width + 0.000000001
        )::integer as bin
    from _ablation_measures
    join saes on saes.name = _ablation_measures.sae_a
    where _ablation_measures.measure = if(
        list_contains(
            [
                'pearson', 'jaccard', 'sufficiency', 'necessity', 'mutual_information',
                'activation_cosine', 'decoder_cosine'
            ],
            measure
        ),
        measure,
        error('Edges have no measure ''' || measure || '''; see view ablation_cards.')::varchar
    )
    and list_contains(saes_in(space), saes.sae_id)
)
select
    bin * bin_width as at_least,
    (bin + 1) * bin_width as below,
    count(*) as n_edges,
    avg(effect) as effect,
    if(count(*) > 1, stddev_samp(effect) / sqrt(count(*)), null) as effect_error,
    avg(share) as share,
    if(count(*) > 1, stddev_samp(share) / sqrt(count(*)), null) as share_error
from binned
group by bin
order by bin;
