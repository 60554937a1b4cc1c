-- Kernel of similar(): the rows as a list. Here only a stand-in for clients without Python.
create or replace macro _similar(feature, k, by_, within_) as error(
    'similar() searches with FAISS: open the atlas with atlas.open() or `atlas sql`, or use'
    ' similar_exact(), which is SQL alone.'
)::struct(rank integer, feature varchar, score double, feature_id bigint)[];
