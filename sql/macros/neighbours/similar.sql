-- The features most like a given one, in any model: nearest neighbours through FAISS.
--
-- By 'activation', the score is Pearson's r of the two features' activations over the words of the
-- reference corpus, so models with different tokenizers meet. FAISS proposes candidates by their
-- signatures (sketches of these activations), and the exact r, from the stored activations,
-- decides; only features with r > 0 are listed. By 'decoder' or 'encoder', the score is the exact
-- cosine of the directions, and only features whose directions live in the same space are compared
-- (see sae_spaces; for a crosscoder's part at one hook point, similar_at). Features that are never
-- active are left out, and give no rows. Rows come best first; equal scores go by feature_id.
--
-- feature: name or id, also a column of them: the calls of a join are answered in batches
-- k: how many
-- by: 'activation', 'decoder' or 'encoder'
-- within: name of the model or SAE to search in, or a pattern of SAEs' names; null for everything
--
--     from similar('stdlib-a/1-resid_post/12', k := 5)
--
--     select f.feature, s.rank, s.feature, s.score
--     from feature_cards f, similar(f.feature_id, k := 3, within := 'stdlib-gpt2') s
--     where f.sae = 'stdlib-a/3-resid_post' and f.index < 10
create or replace macro "similar"(feature, k := 10, by := 'activation', within := null) as table
select unnest(
    _similar(feature::varchar, k::integer, "by"::varchar, coalesce(within::varchar, '')),
    recursive := true
);
