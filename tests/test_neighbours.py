"""similar(): agreement with similar_exact, batches, joins, and a cache that is never trusted."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import faiss
import numpy as np
import pytest

import atlas
from atlas import Atlas
from atlas.errors import QueryError
from atlas.index import Cache, FlatIndex
from tests.synthetic import DEAD, build_synthetic, concepts

LIVE = "feature_id in (select feature_id from features where alive)"


@pytest.fixture(scope="module")
def store(toy: Path) -> Iterator[Atlas]:
    with atlas.open(toy) as opened:
        yield opened


@pytest.fixture
def own(tmp_path: Path, toy: Path) -> Path:
    """A copy of the synthetic atlas, without a cache."""
    return Path(shutil.copy(toy, tmp_path / "own.atlas"))


def same(found: list[tuple], expected: list[tuple]) -> None:
    """Equal but for the last digits of the scores, and for the order of all but equal scores."""
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours[:-1] == theirs[:-1] or ours[-1] == pytest.approx(theirs[-1], abs=1e-6)
        assert ours[-1] == pytest.approx(theirs[-1], abs=1e-6)


# -- what is similar ------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["activation", "decoder", "encoder"])
@pytest.mark.parametrize("within", ["null", "'toy-a'", "'toy-a/1-resid_post'", "'toy-?/0-*'"])
def test_the_same_as_scoring_every_feature(store: Atlas, by: str, within: str) -> None:
    for feature in ("'toy-a/0-resid_post/12'", "30", "'toy-a/1-resid_post/0'"):
        found, expected = (
            store.rows(
                f"select rank, feature, feature_id, score from {macro}({feature}, k := 8,"
                f" by := '{by}', within := {within}) order by rank"
            )
            for macro in ("similar", "similar_exact")
        )
        assert found
        same(found, expected)


def test_all_features_at_once_are_the_same_too(store: Atlas) -> None:
    found, expected = (
        store.rows(
            f"select f.feature_id, s.rank, s.feature_id, s.score from features f,"
            f" {macro}(f.feature_id, k := 5) s where s.score > 0.05 order by f.feature_id, s.rank"
        )
        for macro in ("similar", "similar_exact")
    )
    assert len({row[0] for row in found}) == 4 * (24 - DEAD)
    same(found, expected)


def test_the_nearest_feature_elsewhere_detects_the_same_concept(store: Atlas) -> None:
    concept = np.concatenate([concepts(sae) for sae in range(4)])
    rows = store.rows(
        "select f.feature_id, s.feature_id, s.score from features f, saes,"
        " similar(f.feature_id, k := 1, within := saes.name) s"
        " where f.alive and f.sae_id != saes.sae_id"
    )
    assert len(rows) == 4 * (24 - DEAD) * 3
    right = [concept[ours] == concept[theirs] for ours, theirs, _ in rows]
    assert np.mean(right) > 0.95
    assert np.median([score for *_, score in rows]) > 0.8


def test_signatures_propose_nearly_all_true_neighbours(tmp_path: Path) -> None:
    """Recall of the candidates among many more features than are re-ranked."""
    path = build_synthetic(tmp_path / "wide.atlas", documents=40, width=120, forms=400)
    with atlas.open(path) as wide:
        chosen = f"(select feature_id from features where {LIVE} and feature_id % 20 = 0)"
        found, expected = (
            wide.rows(
                f"select f.feature_id, s.feature_id from {chosen} f,"
                f" {macro}(f.feature_id, k := 3) s where s.score > 0.5"
            )
            for macro in ("similar", "similar_exact")
        )
    assert len(expected) > 30
    assert len(set(found) & set(expected)) >= 0.99 * len(expected)


def test_a_feature_is_not_its_own_neighbour(store: Atlas) -> None:
    for by in ("activation", "decoder", "encoder"):
        assert (
            store.rows(
                f"select 1 from features f, similar(f.feature_id, k := 100, by := '{by}') s"
                " where s.feature_id = f.feature_id"
            )
            == []
        )


def test_dead_features_have_no_neighbours_and_are_nobody_s(store: Atlas) -> None:
    for by in ("activation", "decoder", "encoder"):
        assert store.rows(f"from similar('toy-a/0-resid_post/23', by := '{by}')") == []
        assert store.rows(f"from similar_exact('toy-a/0-resid_post/23', by := '{by}')") == []
        assert (
            store.rows(
                f"select 1 from features f, similar(f.feature_id, k := 100, by := '{by}') s"
                f" where not s.{LIVE}"
            )
            == []
        )


def test_directions_list_every_live_feature_of_the_model_when_asked_for_all(store: Atlas) -> None:
    """Also those of opposite direction, which come after the dead ones' zeros in the search."""
    rows = store.rows("select score from similar(3, k := 1000, by := 'decoder') order by rank")
    assert len(rows) == 2 * (24 - DEAD) - 1
    assert rows[-1][0] < 0


def test_ranks_and_scores_descend(store: Atlas) -> None:
    rows = store.rows("select rank, score from similar(3, k := 20)")
    assert [rank for rank, _ in rows] == list(range(1, len(rows) + 1))
    assert [score for _, score in rows] == sorted((s for _, s in rows), reverse=True)
    assert all(0 < score <= 1 for _, score in rows)


# -- how it is called -----------------------------------------------------------------------------


def test_names_and_ids_ask_the_same(store: Atlas) -> None:
    assert store.rows("from similar('toy-a/1-resid_post/6')") == store.rows("from similar(30)")
    assert store.rows("from similar('30')") == store.rows("from similar(30)")


def test_a_batch_of_more_than_one_vector_with_repeated_and_null_features(store: Atlas) -> None:
    rows = store.rows(
        "select x.i, s.feature_id, s.score from (select i, if(i % 11 = 0, null, i % 96) as f"
        " from range(5000) r(i)) x, similar(x.f, k := 2) s order by x.i, s.rank"
    )
    alone = {
        feature: store.rows(f"select feature_id, score from similar({feature}, k := 2)")
        for feature in (0, 1, 30, 95)
    }
    found: dict[int, list[tuple[int, float]]] = {}
    for i, *hit in rows:
        found.setdefault(i, []).append(tuple(hit))
    for i in range(5000):
        if i % 11 == 0:
            assert i not in found
        elif i % 96 in alone:
            assert found.get(i, []) == alone[i % 96]


def test_k_by_and_within_may_differ_from_row_to_row(store: Atlas) -> None:
    rows = store.rows(
        "select x.k, count(*), any_value(s.feature) from (values (1, 'decoder', 'toy-a'),"
        " (2, 'activation', 'toy-c'), (3, 'encoder', null)) x(k, m, w),"
        " similar(3, k := x.k, by := x.m, within := x.w) s group by x.k order by x.k"
    )
    assert [(k, n) for k, n, _ in rows] == [(1, 1), (2, 2), (3, 3)]
    assert rows[1][2].startswith("toy-c/")


@pytest.mark.parametrize("macro", ["similar", "similar_exact", "contexts", "context_tokens"])
@pytest.mark.parametrize(
    "alias",
    ["features", "saes", "asked", "activations", "tokens", "examples", "own", "scored", "held"],
)
def test_a_join_s_own_names_never_meet_the_macro_s(store: Atlas, macro: str, alias: str) -> None:
    found = store.rows(
        f"select {alias}.feature_id, m.* from (values (3), (30)) as {alias}(feature_id),"
        f" {macro}({alias}.feature_id) as m order by all"
    )
    expected = [(f, *row) for f in (3, 30) for row in store.rows(f"from {macro}({f})")]
    assert [row[:2] for row in found] == [row[:2] for row in sorted(expected)]
    assert len(found) == len(expected)


def test_from_several_threads(own: Path) -> None:
    with atlas.open(own) as opened:
        expected = {f: opened.rows(f"from similar({f}, k := 3)") for f in range(0, 90, 9)}
    shutil.rmtree(own.with_name("own.atlas.index"))
    failures: list[object] = []
    with atlas.open(own) as opened:
        cursors = [opened.cursor() for _ in range(4)]

        def ask(con: duckdb.DuckDBPyConnection) -> None:
            for feature, rows in expected.items():
                found = con.execute(f"from similar({feature}, k := 3)").fetchall()
                if found != rows:
                    failures.append((feature, found))

        threads = [threading.Thread(target=ask, args=[con]) for con in cursors]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for con in cursors:
            con.close()
    assert failures == []


def test_two_handles_on_one_atlas(own: Path) -> None:
    first, second = atlas.open(own), atlas.open(own)
    expected = first.rows("from similar(3)")
    assert second.rows("from similar(3)") == expected
    first.close()
    assert second.rows("from similar(3)") == expected
    second.close()


@pytest.mark.parametrize("macro", ["similar", "similar_exact"])
@pytest.mark.parametrize(
    "call, sentence",
    [
        ("'toy-a/0-resid_post/99'", "numbered 0 to 23."),
        ("3, by := 'colour'", "by is 'activation', 'decoder' or 'encoder', not 'colour'."),
        ("3, within := 'toy'", "There is no 'toy' in this atlas; its SAEs are"),
        ("3, by := 'decoder', within := 'toy-c'", "Directions compare within one space: 'toy-c' "
         "has no decoders in 'toy-a/residual' (see sae_spaces; for crosscoders similar_at); leave "
         "`within` out, or compare by activation."),
        ("3, k := 0", "k is the number of neighbours, at least 1, not 0."),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_told_in_one_sentence(
    store: Atlas, macro: str, call: str, sentence: str
) -> None:
    with pytest.raises(QueryError) as error:
        store.rows(f"from {macro}({call})")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_client_without_python_is_told_what_to_do(own: Path) -> None:
    con = duckdb.connect(str(own), read_only=True)
    try:
        with pytest.raises(duckdb.Error, match=r"atlas\.open\(\).*similar_exact\(\)"):
            con.execute("from similar(3)")
        assert con.execute("select count(*) from similar_exact(3, k := 4)").fetchall() == [(4,)]
    finally:
        con.close()


# -- the cache ------------------------------------------------------------------------------------


def ask(path: Path, by: str = "activation") -> list[tuple]:
    with atlas.open(path) as opened:
        return opened.rows(f"from similar(3, by := '{by}')")


def folder(path: Path) -> Path:
    return path.with_name(f"{path.name}.index")


def test_it_is_made_once_and_used(own: Path) -> None:
    first = ask(own)
    made = {p.name: p.stat().st_mtime_ns for p in folder(own).iterdir()}
    assert set(made) == {
        f"{name}.{kind}" for name in ("signatures", "words-word", "words-q")
        for kind in ("npy", "json")
    }  # fmt: skip
    assert ask(own) == first
    assert {p.name: p.stat().st_mtime_ns for p in folder(own).iterdir()} == made


@pytest.mark.parametrize("name", ["signatures", "words-q", "words-word", "decoder-*"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone", "note", "nonsense", "folder"])
def test_a_damaged_cache_is_made_anew(own: Path, name: str, damage: str) -> None:
    by = "decoder" if name.startswith("decoder") else "activation"
    expected = ask(own, by)
    (path,) = folder(own).glob(f"{name}.npy")
    content = path.read_bytes()
    if damage == "flip":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 64]) + content[middle + 1 :])
    elif damage == "cut":
        path.write_bytes(content[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "gone":
        path.unlink()
    elif damage == "note":
        path.with_suffix(".json").write_text("{")
    elif damage == "nonsense":
        path.with_suffix(".json").write_text(json.dumps([1, 2, 3]))
    else:
        shutil.rmtree(folder(own))
    assert ask(own, by) == expected
    if damage != "note":
        assert path.read_bytes() == content
    assert not list(folder(own).glob("*.part"))


def test_a_cache_of_another_state_is_not_used(own: Path) -> None:
    ask(own)
    with atlas.open(own, write=True) as opened:
        before = opened.rows("from similar(3, k := 1)")
        # The nearest feature goes silent.
        gone = before[0][3]
        with opened.transaction():
            opened.execute(f"delete from activations where feature_id = {gone}")
            opened.execute(
                "update features set alive = false, n_active = 0, word_n_active = 0,"
                f" word_sum_q = 0, word_sum_q2 = 0 where feature_id = {gone}"
            )
            opened.advance_stamp("silence")
        after = opened.rows("from similar(3, k := 1)")
        assert after[0][3] != gone, "the handle that wrote sees it"
    assert ask(own)[0] == after[0], "and every later one"


def test_a_cache_of_another_atlas_is_not_used(own: Path, tmp_path: Path) -> None:
    other = build_synthetic(tmp_path / "other.atlas", seed=5)
    ask(other)
    expected = ask(own)
    shutil.rmtree(folder(own))
    shutil.copytree(folder(other), folder(own))
    assert ask(own) == expected


def test_where_the_folder_cannot_be_made_it_works_in_memory(own: Path) -> None:
    expected = ask(own)
    shutil.rmtree(folder(own))
    folder(own).write_text("in the way")
    assert ask(own) == expected
    assert folder(own).read_text() == "in the way"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_in_a_read_only_folder_it_works_in_memory(own: Path) -> None:
    own.parent.chmod(0o555)
    try:
        assert ask(own)
        assert not folder(own).exists()
    finally:
        own.parent.chmod(0o755)


def test_a_fill_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    def fill(out: np.ndarray) -> None:
        out[:] = 7

    def fail(out: np.ndarray) -> None:
        out[0] = 1
        raise KeyboardInterrupt

    Cache(tmp_path / "c", "one").array("x", "<i4", (5,), fill)
    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path / "c", "two").array("x", "<i4", (5,), fail)
    again = Cache(tmp_path / "c", "one").array("x", "<i4", (5,), fail)
    assert again.tolist() == [7] * 5
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["x.json", "x.npy"]


def test_arrays_of_no_elements(tmp_path: Path) -> None:
    for _ in range(2):
        made = Cache(tmp_path / "c", "one").arrays(
            {"a": ("<f4", (0, 512)), "b": ("<i4", (3,))}, lambda out: out["b"].fill(4)
        )
        assert made["a"].shape == (0, 512)
        assert made["b"].tolist() == [4] * 3


# -- the index ------------------------------------------------------------------------------------


def unit_rows(n: int, d: int = 16) -> np.ndarray:
    rows = np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_ranges_search_what_they_cover(store: Atlas) -> None:
    rows = unit_rows(300)
    ranges = [(200, 250), (10, 40), (40, 60), (90, 90)]
    covered = np.r_[10:60, 200:250]
    score, row = FlatIndex(rows, use_gpu=False).search(rows[:7], 20, ranges)
    exact = rows[:7] @ rows[covered].T
    best = np.argsort(-exact, axis=1)[:, :20]
    np.testing.assert_array_equal(row, covered[best])
    np.testing.assert_allclose(score, np.take_along_axis(exact, best, 1), atol=1e-6)


def test_fewer_rows_than_asked_for() -> None:
    rows = unit_rows(5)
    score, row = FlatIndex(rows, use_gpu=False).search(rows[:2], 20, [(0, 2), (3, 5)])
    assert score.shape == row.shape == (2, 4)
    assert sorted(row[0]) == [0, 1, 3, 4]
    assert FlatIndex(rows, use_gpu=False).search(rows[:2], 20, [])[1].shape == (2, 0)


@pytest.mark.gpu
@pytest.mark.skipif(
    not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus(), reason="no GPU"
)
def test_the_gpu_finds_what_the_cpu_finds() -> None:
    rows = unit_rows(5000, 512)
    for ranges in (None, [(100, 900), (4000, 4500)]):
        ours, theirs = (
            FlatIndex(rows, use_gpu=use_gpu).search(rows[:300], 50, ranges)
            for use_gpu in (True, False)
        )
        np.testing.assert_allclose(ours[0], theirs[0], atol=1e-4)
        assert (ours[1] == theirs[1]).mean() > 0.99


def test_saes_of_one_model_that_do_not_lie_together(tmp_path: Path) -> None:
    """A model to which an SAE was added after another model had come."""
    path = build_synthetic(tmp_path / "a.atlas")
    with atlas.open(path, write=True) as opened:
        with opened.transaction():
            opened.execute(
                "update saes set model_id = 1, name = 'toy-b/1-resid_post' where sae_id = 0"
            )
            opened.execute("update sae_sites set model_id = 1 where sae_id = 0")
            opened.advance_stamp("moved")
        for within in ("'toy-b'", "'toy-b/0-resid_post'", "'toy-b/1-resid_post'"):
            for by in ("activation", "decoder"):
                found, expected = (
                    opened.rows(
                        f"select rank, feature, feature_id, score from {macro}(50, k := 9,"
                        f" by := '{by}', within := {within}) order by rank"
                    )
                    for macro in ("similar", "similar_exact")
                )
                assert found
                same(found, expected)
