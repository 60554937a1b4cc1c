-- The tokens of a feature's contexts, each with its activation: what a heat map is drawn from.
--
-- One row per token of the first n contexts, in the order of the text.
-- rank: of the context, as in contexts()
-- gap: text between the token before and this one, which belongs to no token; usually empty
-- text: the token's text; empty for a token that ends within a character
-- activation: in the SAE's units, 0 where the feature is not active
--
-- feature: name or id
-- n: how many contexts
--
--     from context_tokens('stdlib-a/1-resid_post/12', n := 1)
create or replace macro context_tokens(feature, n := 10) as table
with
asked as (
    select feature_id(feature) as feature_id
),
-- Listed rather than compared with between, so that the join below is on equality.
window_tokens as (
    select
        examples.rank,
        examples.feature_id,
        unnest(range(examples.first_token, examples.last_token + 1)) as token
    from asked
    join examples on examples.feature_id = asked.feature_id
    where examples.rank <= n
),
placed as (
    select
        window_tokens.rank,
        window_tokens.feature_id,
        tokens.token,
        tokens.document_id,
        tokens.start_char,
        tokens.end_char,
        coalesce(
            max(tokens.end_char) over (
                partition by window_tokens.feature_id, window_tokens.rank
                order by tokens.token
                rows between unbounded preceding and 1 preceding
            ),
            tokens.start_char
        ) as read_until
    from window_tokens
    join tokens on tokens.token = window_tokens.token
)
select
    placed.rank,
    placed.token,
    documents.text[placed.read_until + 1 : placed.start_char] as gap,
    documents.text[greatest(placed.read_until, placed.start_char) + 1 : placed.end_char] as text,
    coalesce(activations.q, 0) * saes.scale as activation,
    placed.feature_id
from placed
join documents on documents.document_id = placed.document_id
join features on features.feature_id = placed.feature_id
join saes on saes.sae_id = features.sae_id
left join activations
    on activations.feature_id = placed.feature_id
    and activations.token = placed.token
order by placed.feature_id, placed.rank, placed.token;
