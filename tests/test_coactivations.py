"""Joint activity of two SAEs' features: the loops against SciPy, and links in an atlas."""

from __future__ import annotations

import csv
import io
import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

import atlas
from atlas.compare.activity import Activity
from atlas.errors import AtlasLocked, BadInput, NotFound
from atlas.lineage import joint_device, linking
from atlas.lineage.joint import Joint, joint_activity, merge, peaks, rows_of, strong_counts
from atlas.lineage.linking import LinkOptions, link, link_neighbours
from tests.commandline import invoke, succeed, told
from tests.synthetic import concepts
from tests.synthetic_links import MIN_JOINT

A0, A1, B0 = "toy-a/0-resid_post", "toy-a/1-resid_post", "toy-b/0-resid_post"
C2 = "toy-c/2-resid_post"
"""Of a tokenizer of its own."""
FEW = LinkOptions(min_joint=MIN_JOINT)


def sparse(
    n: int, d: int, density: float, seed: int, largest: int = 1000
) -> tuple[np.ndarray, Activity]:
    """A matrix (n, d) of which some columns are dense and some empty, and the same as activity."""
    rng = np.random.default_rng(seed)
    rate = np.clip(density * rng.lognormal(0, 1.5, d), 0, 1) * (rng.random(d) > 0.1)
    dense = np.where(rng.random((n, d)) < rate, rng.integers(1, largest, (n, d)), 0)
    columns = scipy.sparse.csc_array(dense.astype(np.int32))
    return dense, Activity(
        n, columns.indptr.astype(np.int64), columns.indices.astype(np.int32), columns.data
    )


def whole(blocks: Any) -> Joint:
    return Joint(*map(np.concatenate, zip(*blocks, strict=True)))


def by_scipy(A: np.ndarray, B: np.ndarray, min_joint: int) -> list[np.ndarray]:
    """The rows of `joint_activity`, from three sparse products."""

    def product(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        sides = (scipy.sparse.csr_array(Z.astype(np.int64)) for Z in (X, Y))
        return np.asarray((next(sides).T @ next(sides)).todense())

    both = product(A > 0, B > 0)
    strong = product(0.2 * A.max(0, initial=0) < A, 0.2 * B.max(0, initial=0) < B)
    a, b = np.nonzero(both >= min_joint)
    return [a, b, both[a, b], strong[a, b], product(A, B)[a, b]]


def same(found: Joint, expected: list[np.ndarray]) -> None:
    for ours, theirs, name in zip(found, expected, Joint._fields, strict=True):
        np.testing.assert_array_equal(ours, theirs, name)


# -- the loops ----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 400),
    d_a=st.integers(1, 40),
    d_b=st.integers(1, 40),
    density=st.sampled_from([0.01, 0.1, 0.6]),
    min_joint=st.sampled_from([1, 2, 20, 127, 128, 129, 200]),
    threads=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_every_sum_is_that_of_three_sparse_products(
    n: int, d_a: int, d_b: int, density: float, min_joint: int, threads: int, seed: int
) -> None:
    A, a = sparse(n, d_a, density, seed)
    B, b = sparse(n, d_b, density, seed + 1)
    found = whole(joint_activity(a, b, min_joint, threads=threads, device="cpu"))
    same(found, by_scipy(A, B, min_joint))


def test_blocks_and_ranges_of_units_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    A, a = sparse(3000, 60, 0.1, 0)
    B, b = sparse(3000, 50, 0.1, 1)
    monkeypatch.setattr("atlas.lineage.joint._BLOCK_PAIRS", 120)
    monkeypatch.setattr("atlas.lineage.joint._UNITS_AT_ONCE", 170)
    blocks = list(joint_activity(a, b, 5, device="cpu"))
    assert len(blocks) >= 30  # of 120 // 50 features at most
    same(whole(blocks), by_scipy(A, B, 5))


def test_wide_dictionaries_are_numbered_with_more_bits() -> None:
    A, a = sparse(500, 5, 0.2, 0)
    B, b = sparse(500, 7, 0.2, 1)
    at = np.array([0, 1, 300, 65_535, 65_536, 65_999, 69_999])
    wide = np.zeros((500, 70_000), np.int32)
    wide[:, at] = B
    indptr = np.searchsorted(np.repeat(at, b.n_active), np.arange(70_001)).astype(np.int64)
    found = whole(joint_activity(a, Activity(500, indptr, b.unit, b.q), 2, device="cpu"))
    expected = by_scipy(A, B, 2)
    expected[1] = at[expected[1]]
    same(found, expected)


def test_large_sums_are_exact() -> None:
    q = np.array([2**26 - 1, 2**26 - 3, 1], np.int32)
    one = Activity(3, np.array([0, 3]), np.arange(3, dtype=np.int32), q)
    found = whole(joint_activity(one, one, 1, device="cpu"))
    assert found.sum_ab.tolist() == [sum(int(x) ** 2 for x in q)]
    assert found.n_both_strong.tolist() == [2]


@settings(max_examples=30, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 300), max_size=4),
    min_joint=st.integers(1, 12),
    seed=st.integers(0, 100),
)
def test_parts_of_any_split_add_up_to_the_whole(cuts: list[int], min_joint: int, seed: int) -> None:
    A, a = sparse(300, 12, 0.1, seed)
    B, b = sparse(300, 9, 0.1, seed + 1)
    edges = [0, *sorted(cuts), 300]
    peak_a, peak_b = peaks(a), peaks(b)
    parts = [
        whole(
            joint_activity(a, b, 1, peak_a=peak_a, peak_b=peak_b, units=(first, last), device="cpu")
        )
        for first, last in itertools.pairwise(edges)
    ]
    same(merge(parts, min_joint), by_scipy(A, B, min_joint))


def test_strong_firings_are_counted() -> None:
    A, a = sparse(400, 30, 0.2, 3)
    np.testing.assert_array_equal(strong_counts(a), (A.max(0) < 5 * A).sum(0))
    np.testing.assert_array_equal(peaks(a), A.max(0))


def on_device(device: str, a: Activity, b: Activity, min_joint: int) -> Joint:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        rows = rows_of(b, b.n_active >= min_joint, peaks(b), 100, 900, pool)
    run = joint_device.JointOnDevice(a, rows, b.d_sae, min_joint, peaks(a), 100, 900, device)
    return whole([run(*block) for block in run.blocks()])


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_gpus_way_gives_the_same(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, a = sparse(1000, 40, 0.1, 5)
    _, b = sparse(1000, 30, 0.1, 6)
    expected = whole(joint_activity(a, b, 4, units=(100, 900), device="cpu"))
    assert len(expected.a) > 100
    same(on_device(device, a, b, 4), list(expected))
    monkeypatch.setattr(joint_device, "_CELLS", 100)
    monkeypatch.setattr(joint_device, "_TERMS", 50)
    same(on_device(device, a, b, 4), list(expected))


def test_what_cannot_be_counted_is_told() -> None:
    _, a = sparse(10, 3, 0.5, 0)
    _, b = sparse(11, 3, 0.5, 0)
    with pytest.raises(BadInput, match="do not meet"):
        list(joint_activity(a, b, 1))
    with pytest.raises(BadInput, match="1 or more"):
        list(joint_activity(a, a, 0))
    with pytest.raises(BadInput, match="no device 'tpu'"):
        list(joint_activity(a, a, 1, device="tpu"))


# -- links in an atlas --------------------------------------------------------------------------


@pytest.fixture
def bare(toy: Path, tmp_path: Path) -> Path:
    """A copy of the toy atlas without links."""
    path = tmp_path / "bare.atlas"
    shutil.copy(toy, path)
    with atlas.open(path, write=True) as a:
        for table in ("coactivations", "links", "strong_activity"):
            a.execute(f"delete from {table}")
    return path


def stored(path: Path, a: str, b: str) -> list[tuple[Any, ...]]:
    """All there is of a link, without its number."""
    with atlas.open(path) as opened:
        return opened.rows(
            """
            select over, min_joint, n, n_pairs, feature_a, feature_b, n_both, n_both_strong, sum_ab
            from links
            join coactivations using (link_id)
            where sae_a = sae_id(?) and sae_b = sae_id(?)
            order by coactivations.rowid
            """,
            [a, b],
        )


@pytest.mark.parametrize("a, b", [(A0, A1), (A0, C2)])
def test_a_link_is_what_dense_matrices_say(bare: Path, toy: Path, a: str, b: str) -> None:
    outcome = link(bare, a, b, FEW)
    assert outcome.n_added == 1
    expected = stored(toy, a, b)
    assert len(expected) > 20
    assert stored(bare, a, b) == expected
    with atlas.open(bare) as ours, atlas.open(toy) as theirs:
        query = "from strong_activity where over = ? and feature_id < 48 order by feature_id"
        over = [expected[0][0]]
        rows = ours.rows(query, over)
        assert rows
        assert set(rows) <= set(theirs.rows(query, over))


def test_neighbouring_layers_are_linked_by_default(bare: Path) -> None:
    outcome = link(bare, options=FEW)
    with atlas.open(bare) as a:
        rows = a.rows("select link_id, sae_a, sae_b, over from link_cards")
        assert rows == [(*outcome.link_ids, A0, A1, "tokens")]
        assert a.rows("select command, status from runs order by run_id")[-1] == ("link", "done")


def test_every_feature_goes_on_in_the_one_of_its_concept(bare: Path) -> None:
    link(bare, options=FEW)
    with atlas.open(bare) as a:
        best = a.rows(
            "select feature_id_a, arg_max(feature_id_b, pearson) from edges group by feature_id_a"
        )
    here, there = concepts(0), concepts(1)
    agree = [here[one] == there[other - 24] for one, other in best]
    assert len(agree) == 21
    assert np.mean(agree) > 0.9


def test_a_pattern_or_a_model_names_several(bare: Path) -> None:
    assert link(bare, "toy-a/*", "toy-[bc]/*", FEW).n_added == 4
    with atlas.open(bare) as a:
        rows = set(a.rows("select sae_a, sae_b, over from link_cards"))
    assert rows == {
        (A0, B0, "tokens"), (A1, B0, "tokens"), (A0, C2, "words"), (A1, C2, "words"),
    }  # fmt: skip


def test_upstream_comes_first_within_a_model_and_a_pair_comes_once(bare: Path) -> None:
    first = link(bare, A1, A0, FEW)
    assert link(bare, A0, A1, FEW) == linking.Outcome(first.link_ids, 0)
    crossed = link(bare, C2, A0, FEW)
    assert link(bare, A0, C2, FEW) == linking.Outcome(crossed.link_ids, 0)
    with atlas.open(bare) as a:
        rows = a.rows("select sae_a, sae_b from link_cards order by link_id")
    assert rows == [(A0, A1), (C2, A0)]
    assert link(bare, "toy-a", "toy-a", FEW).n_added == 0


def test_a_lower_minimum_replaces_and_a_higher_one_is_there(bare: Path) -> None:
    first = link(bare, A0, A1, LinkOptions(min_joint=10))
    assert link(bare, A0, A1, LinkOptions(min_joint=11)).link_ids == first.link_ids
    again = link(bare, A0, A1, FEW)
    assert again.n_added == 1
    rows = stored(bare, A0, A1)
    assert {row[1] for row in rows} == {MIN_JOINT}
    with atlas.open(bare) as a:
        assert a.rows("select link_id from links") == [(again.link_ids[0],)]
        assert a.rows("select count(*) from coactivations") == [(len(rows),)]
        assert a.rows("select count(*) from strong_activity") == [(48,)]


def test_every_link_is_kept_whole_or_not_at_all(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_strong = linking._add_strong

    def fail(opened: atlas.Atlas, sae: Any, *rest: Any) -> None:
        if sae.name == B0:
            raise KeyboardInterrupt
        add_strong(opened, sae, *rest)

    monkeypatch.setattr(linking, "_add_strong", fail)
    with pytest.raises(KeyboardInterrupt):
        link(bare, A0, "toy-*", FEW)
    with atlas.open(bare) as a:
        assert a.rows("select sae_b from link_cards") == [(A1,)]
        assert a.rows("select count(distinct link_id) from coactivations") == [(1,)]
    monkeypatch.undo()
    assert link(bare, A0, "toy-*", FEW).n_added == 2
    assert list(bare.parent.iterdir()) == [bare]  # nothing is left beside the atlas


def test_what_is_computed_waits_for_readers(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock on the way delays a link; at the end it is told."""
    opening, refused = linking.Atlas.open, []

    def busy(path: Path, *, write: bool = False, wait: float = 0.0) -> Any:
        if write and wait == 0.0:
            refused.append(path)
            raise AtlasLocked("busy")
        return opening(path, write=write, wait=wait)

    monkeypatch.setattr(linking.Atlas, "open", busy)
    assert link(bare, A0, "toy-*", FEW, wait=1.0).n_added == 3
    assert len(refused) == 3
    with pytest.raises(AtlasLocked):
        link(bare, B0, C2, FEW)


def test_models_without_neighbours_are_passed_over(bare: Path) -> None:
    assert link_neighbours(bare, ["toy-b", "toy-c"], FEW) == linking.Outcome((), 0)
    assert link_neighbours(bare, ["toy-a", "toy-b"], FEW).n_added == 1


def test_an_older_atlas_is_brought_up_to_date(bare: Path) -> None:
    with atlas.open(bare, write=True) as a:
        for table in ("links", "coactivations", "strong_activity"):
            a.execute(f"drop table {table} cascade")
        for table in ("clusterings", "communities", "community_labels", "ablations"):
            a.execute(f"drop table if exists {table} cascade")
        a.set_meta("format", "5")
    assert link(bare, options=FEW).n_added == 1


def test_correlations_of_an_older_atlas_are_filled_in(bare: Path) -> None:
    assert link(bare, options=FEW).n_added == 1
    assert link(bare, A0, C2, FEW).n_added == 1  # over words
    with atlas.open(bare, write=True) as a:
        before = a.rows("from coactivations order by rowid")
        assert len({r for *_, r in before}) > 10
        a.execute("alter table coactivations drop column pearson")
        a.set_meta("format", "6")
    with atlas.open(bare, write=True) as a:
        after = a.rows("from coactivations order by rowid")
        assert [row[:-1] for row in after] == [row[:-1] for row in before]
        assert [row[-1] for row in after] == pytest.approx([row[-1] for row in before], abs=1e-15)


@pytest.mark.parametrize(
    "a, b, kind, sentence",
    [
        (A0, A0, BadInput, "one SAE"),
        ("toy-b", None, BadInput, "No two layers of 'toy-b'"),
        ("toy-z", None, NotFound, "There is no 'toy-z'"),
        (A0, "toy-z", NotFound, "toy-z"),
    ],
)
def test_what_cannot_be_linked_is_told(
    bare: Path, a: str, b: str | None, kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        link(bare, a, b, FEW)


def test_on_the_command_line(bare: Path) -> None:
    printed = succeed("link", bare, "--min-joint", MIN_JOINT)
    (row,) = csv.DictReader(io.StringIO(printed))
    assert (row["sae_a"], row["sae_b"], row["over"]) == (A0, A1, "tokens")
    assert succeed("link", bare, "--min-joint", 5) == printed
    both = succeed("link", bare, "toy-a", C2, "--min-joint", MIN_JOINT, "-f", "csv")
    assert [one["sae_a"] for one in csv.DictReader(io.StringIO(both))] == [A0, A1]
    assert "one SAE" in told(invoke("link", bare, A0, A0))
