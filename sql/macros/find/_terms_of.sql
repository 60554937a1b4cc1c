-- The search terms of a text: lower-case words without accents, and single symbols.
--
-- Han characters and Hiragana are terms by themselves, since no spaces part their words.
create or replace macro _terms_of(words) as regexp_extract_all(
    strip_accents(lower(words)),
    '\p{Han}|\p{Hiragana}|[\p{L}\p{N}][\p{L}\p{M}\p{N}''’]*|[^\s\p{L}\p{N}]'
);
