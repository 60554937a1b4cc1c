"""What the features of a community have in common, in a few words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

_WORDS = 4
"""Words that a label names at most."""

_LEAST = 0.25
"""A word is named only if it weighs so much of what the first one does."""

_LABELS = """
with
members as (
    select
        community,
        feature_id,
        count(*) over (partition by community) as n_features
    from _members
),
-- The label that at least half of the members have.
shared as (
    select
        members.community,
        best_labels.label
    from members
    join best_labels using (feature_id)
    group by members.community, best_labels.label
    having 2 * count(*) >= any_value(members.n_features)
    qualify row_number() over (
        partition by members.community order by count(*) desc, sum(score) desc nulls last, label
    ) = 1
),
-- How much of its members' activation lies on each word form.
masses as (
    select
        members.community,
        word_stats.form,
        sum(word_stats.sum_q / features.word_sum_q) as mass,
        any_value(members.n_features) as n_features
    from members
    join word_stats using (feature_id)
    join features using (feature_id)
    group by all
),
weighted as (
    select
        community,
        form,
        mass / n_features * ln(
            1 + sum(mass) over () / count(distinct community) over ()
            / sum(mass) over (partition by form)
        ) as weight
    from masses
),
named as (
    select *
    from weighted
    qualify weight >= $least * max(weight) over (partition by community)
    and row_number() over (partition by community order by weight desc, form) <= $words
),
worded as (
    select
        community,
        string_agg(form, ' · ' order by weight desc, form) as label
    from named
    group by community
)
select
    community,
    coalesce(shared.label, worded.label) as label,
    sizes.n_features
from (select community, count(*) as n_features from members group by all) as sizes
left join shared using (community)
left join worded using (community)
order by community
"""


def label_communities(
    con: duckdb.DuckDBPyConnection, feature_id: NDArray[np.int64], community: NDArray[np.int32]
) -> list[tuple[int, str | None, int]]:
    """(community, label, number of features) of every community, ascending.

    feature_id, community: (n,) the members. The label is what at least half of them are labelled
    themselves; else the words that weigh most: the mean share of a member's activation that lies on
    the word, times ln(1 + A / f), f being the word's sum of shares over all members and A the mean
    over communities of such sums, of all words (class-based TF-IDF: Grootendorst 2022, arXiv
    2203.05794). None where the members fire on no word.
    """
    import pyarrow as pa

    con.register("_members", pa.table({"feature_id": feature_id, "community": community}))
    try:
        return con.execute(_LABELS, {"words": _WORDS, "least": _LEAST}).fetchall()
    finally:
        con.unregister("_members")
