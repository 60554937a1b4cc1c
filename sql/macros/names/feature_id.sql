-- Id of a feature given by its name or its id; an error for a feature that the atlas does not hold.
--
-- feature: name ('stdlib-a/1-resid_post/12') or id; null gives null
--
--     select feature_id('stdlib-a/1-resid_post/12')
create or replace macro feature_id(feature) as list_transform(
    -- The argument and the SAEs travel into the lambda as values, so that calls can be nested.
    [{'feature': feature::varchar, 'saes': _saes()}],
    lambda asked: coalesce(
        case
            when asked.feature is null then
                null
            when regexp_full_match(asked.feature, '[0-9]+') then
                list_transform(
                    list_filter(
                        asked.saes,
                        lambda s: try_cast(asked.feature as bigint) between s.first and s.last
                    ),
                    lambda s: try_cast(asked.feature as bigint)
                )[1]
            else
                list_transform(
                    list_filter(
                        asked.saes,
                        lambda s: s.name = regexp_extract(asked.feature, '^(.*)/(0|[1-9][0-9]*)$', 1)
                        and try_cast(regexp_extract(asked.feature, '[0-9]+$') as bigint)
                        <= s.last - s.first
                    ),
                    lambda s: s.first + try_cast(regexp_extract(asked.feature, '[0-9]+$') as bigint)
                )[1]
        end,
        if(asked.feature is null, null, error(_no_feature(asked.feature, asked.saes))::bigint)
    )
)[1];
