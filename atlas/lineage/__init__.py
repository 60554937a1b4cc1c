"""How features of one layer go on in others.

    joint       joint activity of all pairs of two SAEs' features, counted exactly; joint_loops are
                its compiled loops, joint_device the same on a GPU
    linking     computes it for layers of an atlas, and keeps it: `atlas link`
    communities finds communities of features over all layers, and keeps them: `atlas communities`;
                by partition, agreement, community_labels
    gates       finds features that fire where two or three upstream do in a Boolean combination; by
                boolean, which counts, with gate_loops

    measures    names of an edge's measures

What is kept are counts and sums; every measure of an edge is SQL over them (sql/views/edges.sql).
"""
