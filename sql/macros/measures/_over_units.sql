-- A sum over tokens or the one over words, whichever the units are; integers.
--
-- A plain if() of two columns of a joined table hands on the one's vector or the other's, chunk by
-- chunk, and a filter above it then ends DuckDB 2.0.0 with "global dictionary column changed
-- identity". A sum makes a vector of its own.
--
-- over: 'tokens' or 'words'
create or replace macro _over_units(over, of_tokens, of_words) as
    if(over = 'tokens', of_tokens, 0) + if(over = 'tokens', 0, of_words);
