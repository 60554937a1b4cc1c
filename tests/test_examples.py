"""Examples: which contexts of a feature are shown, against the definition in plain loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.ingest.describing.examples import (
    PER_STRATUM,
    SPLIT,
    STRATA,
    STRATUM_NAMES,
    TOP,
    WINDOW,
    Layout,
    choose_examples,
    strength_order,
)
from tests.measured import block_of, random_q


def make_layout(rng: np.random.Generator, n_documents: int, context: int) -> Layout:
    lengths = rng.integers(1, 60, n_documents)
    document = np.repeat(np.arange(n_documents), lengths)
    position = np.concatenate([np.arange(n) for n in lengths]).astype(np.int32)
    return Layout.build(document, position, context)


def rows(q: np.ndarray, layout: Layout) -> list[dict]:
    block = block_of(q)
    chosen = choose_examples(block, layout, strength_order(block))
    names = ("feature", "rank", "stratum", "split", "token", "q", "first_token", "last_token")
    return [
        dict(zip(names, map(int, row), strict=True))
        for row in zip(*(getattr(chosen, name) for name in names), strict=True)
    ]


def peaks_of(q: np.ndarray, context_first: np.ndarray) -> list[tuple[int, int]]:
    """(-q, token) of the strongest token of each context, the first of equals; strongest first."""
    best: dict[int, tuple[int, int]] = {}
    for token in np.flatnonzero(q):
        entry = (-int(q[token]), int(token))
        place = int(context_first[token])
        best[place] = min(best.get(place, entry), entry)
    return sorted(best.values())


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 80),
    st.sampled_from([4, 16, 100]),
    st.floats(0.005, 0.9),
)
@settings(max_examples=40, deadline=None)
def test_examples_keep_their_promises(seed, n_documents, context, density):
    rng = np.random.default_rng(seed)
    layout = make_layout(rng, n_documents, context)
    q = random_q(rng, len(layout.document), 4, density)
    found = rows(q, layout)
    for feature in range(4):
        mine = [row for row in found if row["feature"] == feature]
        peaks = peaks_of(q[:, feature], layout.context_first)
        assert bool(mine) == bool(peaks)
        assert [row["rank"] for row in mine] == list(range(1, len(mine) + 1))

        top = [(-row["q"], row["token"]) for row in mine if row["stratum"] == 0]
        sides = [[p for p in peaks if layout.document[p[1]] % 2 == side] for side in (0, 1)]
        half = TOP // 2
        wanted = [side[: half + max(0, half - len(other))] for side, other in (sides, sides[::-1])]
        assert top == sorted(wanted[0] + wanted[1])
        assert top[:half] == peaks[:half]

        active = np.flatnonzero(q[:, feature])
        order = sorted(active, key=lambda token: (-q[token, feature], token))
        strata = [row["stratum"] for row in mine]
        assert strata == sorted(strata, key=lambda s: 0 if s == 0 else STRATA + 1 - s)
        for stratum in range(1, STRATA + 1):
            here = [row for row in mine if row["stratum"] == stratum]
            for split in (0, 1):
                assert sum(row["split"] == split for row in here) <= PER_STRATUM // 2
            assert here == sorted(here, key=lambda row: (-row["q"], row["token"]))
            for row in here:
                rank = order.index(row["token"])
                assert STRATA - rank * STRATA // len(order) == stratum

        contexts = [layout.context_first[row["token"]] for row in mine]
        assert len(set(contexts)) == len(contexts)
        for row in mine:
            token, document = row["token"], layout.document[row["token"]]
            assert row["q"] == q[token, feature] > 0
            assert row["split"] == document % 2
            inside = np.flatnonzero(layout.context_first == layout.context_first[token])
            assert row["first_token"] == max(inside[0], token - WINDOW)
            assert row["last_token"] == min(inside[-1], token + WINDOW)


def test_every_stratum_of_a_common_feature_is_shown_from_both_splits():
    rng = np.random.default_rng(0)
    layout = make_layout(rng, 600, 32)
    q = random_q(rng, len(layout.document), 2, density=0.05, top=10_000)
    found = [row for row in rows(q, layout) if row["feature"] == 0]
    assert sum(row["stratum"] == 0 for row in found) == TOP
    for stratum in range(1, STRATA + 1):
        for split in (0, 1):
            here = [row for row in found if (row["stratum"], row["split"]) == (stratum, split)]
            assert len(here) == PER_STRATUM // 2


def test_splits_share_no_document():
    rng = np.random.default_rng(5)
    layout = make_layout(rng, 200, 32)
    found = rows(random_q(rng, len(layout.document), 6), layout)
    documents = [
        {layout.document[row["token"]] for row in found if row["split"] == split}
        for split in (0, 1)
    ]
    assert all(documents)
    assert not documents[0] & documents[1]


def test_dense_features_have_weak_examples_too():
    rng = np.random.default_rng(7)
    layout = make_layout(rng, 400, 128)
    q = random_q(rng, len(layout.document), 2, density=0.3, top=10_000)
    strata = {row["stratum"] for row in rows(q, layout) if row["feature"] == 0}
    assert {0, 3, 4, 5} <= strata


def test_no_entries():
    layout = make_layout(np.random.default_rng(0), 3, 8)
    assert rows(np.zeros((len(layout.document), 3), int), layout) == []


def test_names():
    assert SPLIT == ("explain", "score")
    assert STRATUM_NAMES == ("top", "q1", "q2", "q3", "q4", "q5")
