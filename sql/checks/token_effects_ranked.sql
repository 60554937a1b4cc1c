-- Token effects are of the tokenizer's ids, ranked 1, 2, … downwards and −1, −2, … upwards.
select
    feature_id,
    token_id,
    rank,
    effect
from (
    select
        token_effects.feature_id,
        token_effects.token_id,
        token_effects.rank,
        token_effects.effect,
        vocabulary.token_id is not null as known,
        sign(token_effects.rank) * row_number() over by_rank as expected_rank,
        lag(token_effects.effect) over by_rank as effect_before
    from token_effects
    left join features using (feature_id)
    left join saes using (sae_id)
    left join models using (model_id)
    left join vocabulary
        on vocabulary.tokenizer_id = models.tokenizer_id
        and vocabulary.token_id = token_effects.token_id
    window by_rank as (
        partition by token_effects.feature_id, sign(token_effects.rank)
        order by abs(token_effects.rank)
    )
)
where not known
or rank is distinct from expected_rank
or not isfinite(effect)
or effect is null
or (rank > 0 and effect > effect_before)
or (rank < 0 and effect < effect_before)
