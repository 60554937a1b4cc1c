-- How often one feature fires where two others do, in every combination, from activations. One row.
--
-- SQL alone, for any three features; what gates() finds can be told again here.
-- n_000 … n_111: units by which features are active there: the first digit stands for input_1, the
-- second for input_2, the third for the output; all eight add up to n
-- sufficiency_1, sufficiency_2: P(output | input)
-- necessity_1, necessity_2: P(input | output)
-- and_sufficiency, and_necessity: P(output | both inputs), P(both inputs | output)
-- or_sufficiency, or_necessity: the same of at least one input
-- and_not_sufficiency, and_not_necessity: the same of input_1 without input_2
-- and_lift, or_lift, and_not_lift: by how much the gate's share exceeds that without one of its
-- inputs; see gates
--
-- input_1, input_2: name or id
-- output: name or id
-- above: share of a feature's maximum that it must exceed to be active
-- documents: 'all'; 'even', on which gates() finds; 'odd', on which it confirms
--
--     from gate('stdlib-a/1-resid_post/12', 'stdlib-a/1-resid_post/3', 'stdlib-a/3-resid_post/2')
--
--     select and_sufficiency, sufficiency_1, sufficiency_2
--     from gate('stdlib-a/1-resid_post/12', 'stdlib-a/1-resid_post/3', 'stdlib-a/3-resid_post/2', documents := 'odd')
create or replace macro gate(
    input_1, input_2, output, above := 0.0, documents := 'all'
) as table
with
asked as materialized (
    select
        if(
            documents in ('all', 'even', 'odd'),
            documents,
            error('documents is ''all'', ''even'' or ''odd'', not ''' || documents || '''.')::varchar
        ) as documents_asked,
        unnest([1, 2, 4]) as bit,
        unnest([feature_id(input_1), feature_id(input_2), feature_id(output)]) as feature_id
),
three as materialized (
    select
        asked.*,
        feature_names.feature,
        features.max_q,
        count(distinct models.tokenizer_id) over () = 1 as same,
        models.tokenizer_id
    from asked
    join features on features.feature_id = asked.feature_id
    join feature_names on feature_names.feature_id = asked.feature_id
    join saes on saes.sae_id = features.sae_id
    join models on models.model_id = saes.model_id
),
-- On which units each of them is active, once each.
firings as (
    select distinct
        three.bit,
        _over_units(if(three.same, 'tokens', 'words'), tokens.token, tokens.word) as unit
    from three
    join activations on activations.feature_id = three.feature_id
    join tokens on tokens.token = activations.token
    where activations.q > above * three.max_q
    and (
        three.documents_asked = 'all'
        or tokens.document_id % 2 = if(three.documents_asked = 'even', 0, 1)
    )
),
cells as (
    select
        count(*) filter (active = 1) as n_100,
        count(*) filter (active = 2) as n_010,
        count(*) filter (active = 3) as n_110,
        count(*) filter (active = 4) as n_001,
        count(*) filter (active = 5) as n_101,
        count(*) filter (active = 6) as n_011,
        count(*) filter (active = 7) as n_111
    from (
        select sum(bit)::integer as active
        from firings
        group by unit
    )
),
named as (
    select
        max(feature) filter (bit = 1) as input_1,
        max(feature) filter (bit = 2) as input_2,
        max(feature) filter (bit = 4) as output,
        if(bool_and(same), 'tokens', 'words') as over,
        any_value(tokenizer_id) as tokenizer_id,
        any_value(documents_asked) as documents_asked
    from three
),
counted as (
    select
        named.*,
        if(
            named.over = 'tokens',
            (
                select count(*)
                from tokens
                join tokenizers
                    on tokens.token between tokenizers.first_token
                    and tokenizers.first_token + tokenizers.n_tokens - 1
                where tokenizers.tokenizer_id = named.tokenizer_id
                and (
                    named.documents_asked = 'all'
                    or tokens.document_id % 2 = if(named.documents_asked = 'even', 0, 1)
                )
            ),
            (
                select count(*)
                from words
                where named.documents_asked = 'all'
                or words.document_id % 2 = if(named.documents_asked = 'even', 0, 1)
            )
        ) as n
    from named
),
shares as (
    select
        counted.*,
        cells.*,
        n_001 + n_101 + n_011 + n_111 as n_out,
        (n_101 + n_111) / nullif(n_100 + n_110 + n_101 + n_111, 0) as sufficiency_1,
        (n_011 + n_111) / nullif(n_010 + n_110 + n_011 + n_111, 0) as sufficiency_2,
        (n_101 + n_111) / nullif(n_out, 0) as necessity_1,
        (n_011 + n_111) / nullif(n_out, 0) as necessity_2,
        n_111 / nullif(n_110 + n_111, 0) as and_sufficiency,
        n_111 / nullif(n_out, 0) as and_necessity,
        (n_101 + n_011 + n_111)
        / nullif(n_100 + n_010 + n_110 + n_101 + n_011 + n_111, 0) as or_sufficiency,
        (n_101 + n_011 + n_111) / nullif(n_out, 0) as or_necessity,
        n_101 / nullif(n_100 + n_101, 0) as and_not_sufficiency,
        n_101 / nullif(n_out, 0) as and_not_necessity
    from counted
    cross join cells
)
select
    input_1,
    input_2,
    output,
    over,
    n,
    n - (n_100 + n_010 + n_110 + n_001 + n_101 + n_011 + n_111) as n_000,
    n_100,
    n_010,
    n_110,
    n_001,
    n_101,
    n_011,
    n_111,
    sufficiency_1,
    sufficiency_2,
    necessity_1,
    necessity_2,
    and_sufficiency,
    and_necessity,
    and_sufficiency / nullif(greatest(sufficiency_1, sufficiency_2), 0) as and_lift,
    or_sufficiency,
    or_necessity,
    or_necessity / nullif(greatest(necessity_1, necessity_2), 0) as or_lift,
    and_not_sufficiency,
    and_not_necessity,
    and_not_sufficiency / nullif(
        -- Without the first: where the second is not active.
        greatest(sufficiency_1, (n_001 + n_101) / nullif(n_000 + n_100 + n_001 + n_101, 0)), 0
    ) as and_not_lift
from shares;
