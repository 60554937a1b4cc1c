-- Of every feature of linked SAEs the strongest edge downstream in each link. One row per (link, feature).
--
-- Equally strong ones go by the lower id.
create or replace macro _partners(measure, at_least, strong) as table
select
    measured.link_id,
    measured.sae_id_a,
    measured.sae_id_b,
    measured.feature_id_a as feature_id,
    -max({'edge': measured.edge, 'before': -measured.feature_id_b}).before as partner_id,
    max(measured.edge) as edge
from (
    select
        *,
        case measure
            when 'pearson' then pearson
            when 'jaccard' then jaccard
            when 'sufficiency' then sufficiency
            when 'necessity' then necessity
            when 'mutual_information' then mutual_information
            when 'activation_cosine' then activation_cosine
        end as edge
    from (
        from edges
        where not strong
        union all by name
        from edges_strong
        where strong
    )
) as measured
where measured.edge >= at_least
group by measured.link_id, measured.sae_id_a, measured.sae_id_b, measured.feature_id_a;
