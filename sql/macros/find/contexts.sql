-- Where a feature fires: stretches of the corpus to read, the strongest first.
--
-- text: the stretch, with «the token» on which the activation peaks marked, and ⏎ for a line break
-- activation: at that token, in the SAE's units
-- stratum: 'top' for the strongest of all, or 'q1' (weakest fifth of the active tokens) to 'q5'
-- split: 'explain' or 'score', which never share a document, so that an explanation made from one
-- can be scored on the other
--
-- feature: name or id
-- n: how many, in the order of the table examples
--
--     from contexts('stdlib-a/1-resid_post/12', n := 3)
--
--     select f.feature, c.activation, c.text
--     from feature_cards f, contexts(f.feature_id, n := 2) c
--     where f.sae = 'stdlib-a/3-resid_post' and f.index < 10
create or replace macro contexts(feature, n := 10) as table
with
asked as (
    select feature_id(feature) as feature_id
),
marked as (
    select
        examples.rank,
        examples.stratum,
        examples.split,
        examples.q * saes.scale as activation,
        documents.text[first.start_char + 1 : peak.start_char] as before,
        documents.text[peak.start_char + 1 : peak.end_char] as token_text,
        documents.text[peak.end_char + 1 : last.end_char] as after,
        feature_names.feature,
        peak.document_id,
        documents.source,
        examples.token,
        examples.feature_id
    from asked
    join examples on examples.feature_id = asked.feature_id
    join feature_names on feature_names.feature_id = examples.feature_id
    join saes on saes.sae_id = feature_names.sae_id
    join tokens as peak on peak.token = examples.token
    join tokens as first on first.token = examples.first_token
    join tokens as last on last.token = examples.last_token
    join documents on documents.document_id = peak.document_id
    where examples.rank <= n
)
select
    marked.rank,
    marked.stratum,
    marked.activation,
    -- The marks hug the token: white space that belongs to it stays outside, unless it is all.
    regexp_replace(
        marked.before || regexp_replace(marked.token_text, '^(\s*)(\S.*?|\s+)(\s*)$', '\1«\2»\3', 's')
        || marked.after,
        '\r?\n',
        '⏎',
        'g'
    ) as text,
    marked.split,
    marked.document_id,
    marked.source,
    marked.token,
    marked.feature,
    marked.feature_id
from marked
order by marked.feature_id, marked.rank;
