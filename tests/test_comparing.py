"""Comparing SAEs through the library and SQL: what is measured, what is kept, what goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import atlas
from atlas.compare import study
from atlas.compare.comparer import Comparer
from atlas.compare.measures import metric
from atlas.compare.settings import PairingSettings, Tests
from atlas.compare.study import StudyOptions
from atlas.errors import AtlasLocked, BadInput, NotFound, QueryError
from tests.synthetic import concepts

A, B, C = 0, 2, 3
"""SAEs of the toy atlas: toy-a/0, toy-b/0 and toy-c/2, which has a tokenizer of its own."""

FEW = PairingSettings(min_joint=3, shifts=4)
QUICK = Tests(permutations=49, subsets=19)


@pytest.fixture
def mine(toy: Path, tmp_path: Path) -> Path:
    """A copy of the toy atlas without anything compared."""
    path = tmp_path / "mine.atlas"
    shutil.copy(toy, path)
    with atlas.open(path, write=True) as a:
        for table in ("comparisons", "feature_pairs", "pairings"):
            a.execute(f"delete from {table}")
        a.execute("delete from runs where command = 'compare'")
    return path


@pytest.fixture
def store(mine: Path) -> Iterator[atlas.Atlas]:
    with atlas.open(mine) as opened:
        yield opened


def options(**given: Any) -> StudyOptions:
    chosen = {"a": "toy-a", "b": "toy-c", "metrics": ("svcca", "rsa"), "settings": FEW}
    return StudyOptions(**{**chosen, "tests": QUICK, **given})


# -- one question -------------------------------------------------------------------------------


@pytest.mark.parametrize("theirs", [B, C])
def test_features_of_one_concept_are_paired(store: atlas.Atlas, theirs: int) -> None:
    pairs = Comparer(store.cursor).pairs(A, theirs, FEW)
    ours, of_theirs = concepts(A)[pairs.a], concepts(theirs)[pairs.b]
    assert len(pairs.a) >= 15
    assert (ours == of_theirs).mean() > 0.9


def test_a_metric_is_that_of_the_paired_decoders(store: atlas.Atlas) -> None:
    comparer = Comparer(store.cursor)
    pairs = comparer.pairs(A, C, FEW)
    rows = store.rows("select decoder from vectors order by feature_id")
    decoders = [np.array(row[0], np.float32) for row in rows]
    x = np.stack([decoders[i] for i in pairs.a])
    y = np.stack([decoders[72 + i] for i in pairs.b])
    for found in comparer.measure(A, C, ["cka", "rsa(cosine,pearson)"], FEW, QUICK):
        assert found.value == pytest.approx(metric(found.metric).prepare(x, y).value)
        assert found.n == len(pairs.a)
        assert found.null is not None
        assert found.subset is not None
        assert (found.null.m, found.subset.m) == (49, 19)


def test_measures_of_one_question_do_not_depend_on_each_other(store: atlas.Atlas) -> None:
    together = Comparer(store.cursor).measure(A, B, ["svcca", "rsa", "cka"], FEW, QUICK)
    alone = [
        Comparer(store.cursor).measure(A, B, [name], FEW, QUICK)[0]
        for name in ("svcca", "rsa", "cka")
    ]
    assert together == alone


def test_too_few_pairs_have_no_value(store: atlas.Atlas) -> None:
    rare = PairingSettings(min_joint=10**6)
    (found,) = Comparer(store.cursor).measure(A, B, ["svcca"], rare, QUICK)
    assert np.isnan(found.value)
    assert np.isnan(found.calibrated)
    assert (found.n, found.null, found.subset) == (0, None, None)


def test_no_draws_no_nulls(store: atlas.Atlas) -> None:
    (found,) = Comparer(store.cursor).measure(A, B, ["svcca"], FEW, Tests(0, 0))
    assert (found.null, found.subset) == (None, None)


def test_a_measure_with_memory_by_the_square_takes_some_pairs(
    store: atlas.Atlas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atlas.compare.question._MOST", 10)
    svcca, rsa = Comparer(store.cursor).measure(A, B, ["svcca", "rsa"], FEW, QUICK)
    assert rsa.n == 10
    assert svcca.n > 10


# -- SQL ----------------------------------------------------------------------------------------


def test_pairs_in_sql_are_those_of_the_library(store: atlas.Atlas) -> None:
    found = Comparer(store.cursor).pairs(A, C, FEW)
    rows = store.rows(
        "select id_a, id_b - 72, r, p, q, feature_a from pairs('toy-a/0-resid_post',"
        " 'toy-c/2-resid_post', min_joint := 3, shifts := 4)"
    )
    assert [row[:2] for row in rows] == list(zip(found.a.tolist(), found.b.tolist(), strict=True))
    assert [row[2] for row in rows] == pytest.approx(found.r.tolist())
    assert [row[3] for row in rows] == pytest.approx(found.p.tolist())
    assert [row[5] for row in rows] == [f"toy-a/0-resid_post/{i}" for i in found.a]


def test_columns_of_saes_are_compared_row_by_row(store: atlas.Atlas) -> None:
    rows = store.rows(
        "select a.sae_id, b.sae_id, s.value, s.n from saes a, saes b, cka(a.name, b.sae_id,"
        " min_joint := 3, permutations := 9, subsets := 0) s where a.sae_id < b.sae_id order by all"
    )
    assert [row[:2] for row in rows] == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    one = store.row(
        "from cka('toy-a/1-resid_post', 'toy-c/2-resid_post', min_joint := 3, permutations := 9,"
        " subsets := 0)"
    )
    assert one is not None
    assert one[0] == rows[4][2]


@pytest.mark.parametrize(
    "call, sentence",
    [
        ("svcca('toy-a/0-resid_post', 'toy-x/1')", "There is no 'toy-x/1' in this atlas"),
        ("compare(0, 1, metric := 'ccs')", "There is no measure 'ccs'; there are mean_corr"),
        ("pairs(0, 1, method := 'all')", "method is one of mutual, best, hungarian, lan2024"),
        ("pairs(0, 3, over := 'tokens')", "The tokens of 'pieces' are not those of 'characters'"),
        ("pairs(0, 1, min_joint := 0)", "min_joint is at least 1, not 0."),
        ("pairs(0, 1, shifts := -1)", "shifts is a number of circular shifts, not -1."),
        ("cka(0, 1, permutations := -1)", "permutations is a number of draws, not -1."),
    ],
)
def test_what_cannot_be_compared_is_told(store: atlas.Atlas, call: str, sentence: str) -> None:
    with pytest.raises(QueryError) as error:
        store.rows(f"from {call}")
    assert str(error.value).startswith(sentence)


def test_a_change_of_a_category_is_seen(mine: Path) -> None:
    query = (
        "from compare(0, 3, subspace := 'pets', min_joint := 3, permutations := 9, subsets := 0)"
    )
    with atlas.open(mine, write=True) as a:
        nobody = a.row(query)
        words = [(form,) for (form,) in a.rows("select distinct lower(form) from words")]
        for (word,) in words:
            a.execute("insert into categories values ('pets', ?, 'test')", [word])
        everybody = a.row(query)
    assert nobody is not None
    assert everybody is not None
    assert nobody[0] is None
    assert everybody[0] is not None


# -- a study ------------------------------------------------------------------------------------


def test_what_is_compared_is_kept_and_read_again(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with atlas.open(mine) as a:
        computed = a.rows(
            "select value, calibrated, p, subset_p, n, dims_a from compare(0, 3, min_joint := 3,"
            " permutations := 49, subsets := 19)"
        )
    settings = PairingSettings(min_joint=3)
    outcome = study.compare(mine, options(a="toy-a/0-resid_post", settings=settings))
    assert outcome.added
    _forbid_computing(monkeypatch)
    assert study.compare(mine, options(a="toy-a/0-resid_post", settings=settings)) == (
        study.Outcome(outcome.run_id, added=False)
    )
    with atlas.open(mine) as a:
        kept = a.rows(
            "select value, calibrated, p, subset_p, n, dims_a from compare(0, 3, min_joint := 3,"
            " permutations := 49, subsets := 19)"
        )
        cards = a.rows(
            "select value, calibrated, p, subset_p, n, dims_a from comparison_cards"
            " where run_id = ? and metric = 'svcca'",
            [outcome.run_id],
        )
        assert a.rows("select feature_a, feature_b from pairs(0, 3, min_joint := 3)") == a.rows(
            "select a.feature, b.feature from feature_pairs join feature_names a on"
            " a.feature_id = feature_a join feature_names b on b.feature_id = feature_b"
            " order by feature_pairs.rowid"
        )
    assert kept == computed == cards


def _forbid_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("this was there already")

    monkeypatch.setattr(Comparer, "measure", refuse)
    monkeypatch.setattr(Comparer, "pairs", refuse)


def test_all_of_one_model_with_all_of_another(mine: Path) -> None:
    outcome = study.compare(mine, options(b="toy-?/*"))
    with atlas.open(mine) as a:
        found = a.rows(
            "select distinct sae_id_a, sae_id_b from comparison_cards where run_id = ?"
            " order by all",
            [outcome.run_id],
        )
        (config, status) = a.rows(
            "select config, status from runs where run_id = ?", [outcome.run_id]
        )[0]
        corrected = a.rows(
            "select metric, p, q from comparison_cards where run_id = ?", [outcome.run_id]
        )
    assert found == [(0, 1), (0, 2), (0, 3), (1, 0), (1, 2), (1, 3)]
    assert '"toy-?/*"' in config
    assert status == "done"
    for name in ("svcca", "rsa"):
        of_it = np.array([(p, q) for metric, p, q in corrected if metric == name])
        assert (of_it[:, 1] >= of_it[:, 0]).all()
        assert of_it[:, 1].max() == pytest.approx(of_it[:, 0].max())


def test_parts_that_are_kept_are_not_done_again(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = study.compare(mine, options(metrics=("svcca",)))
    asked: list[list[str]] = []
    whole = Comparer.measure

    def watch(self: Comparer, a: int, b: int, metrics: list[str], *rest: Any) -> Any:
        asked.append(list(metrics))
        return whole(self, a, b, metrics, *rest)

    monkeypatch.setattr(Comparer, "measure", watch)
    second = study.compare(mine, options())
    assert asked == [["rsa"], ["rsa"]]
    with atlas.open(mine) as a:
        assert a.rows("select count(*) from pairings") == [(2,)]
        both = [
            a.rows(
                "select sae_id_a, value, p from comparison_cards where run_id = ? and"
                " metric = 'svcca' order by all",
                [run_id],
            )
            for run_id in (first.run_id, second.run_id)
        ]
    assert both[0] == both[1]


def test_an_interrupted_comparison_goes_on(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Comparer.measure
    asked: list[int] = []

    def break_off(self: Comparer, a: int, *rest: Any) -> Any:
        asked.append(a)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return whole(self, a, *rest)

    monkeypatch.setattr(study, "_COMMIT_EVERY", 0.0)
    monkeypatch.setattr(Comparer, "measure", break_off)
    with pytest.raises(KeyboardInterrupt):
        study.compare(mine, options())
    with atlas.open(mine) as a:
        assert a.rows("select status from runs where command = 'compare'") == [("begun",)]
    outcome = study.compare(mine, options())
    assert asked == [0, 1, 1]
    with atlas.open(mine) as a:
        rows = a.rows(
            "select sae_id_a, metric, q is not null from comparison_cards where run_id = ?"
            " order by all",
            [outcome.run_id],
        )
        assert a.rows("select status from runs where command = 'compare'") == [("done",)]
    assert rows == [(i, name, True) for i in (0, 1) for name in ("rsa", "svcca")]


def test_a_reader_does_not_stop_a_comparison(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[float] = []
    whole = study._Run._keep

    def locked_once(self: study._Run, wait: float, status: str) -> int:
        tries.append(wait)
        if len(tries) == 1:
            raise AtlasLocked("somebody reads.")
        return whole(self, wait, status)

    monkeypatch.setattr(study, "_COMMIT_EVERY", 0.0)
    monkeypatch.setattr(study._Run, "_keep", locked_once)
    outcome = study.compare(mine, options(), wait=7.0)
    assert tries == [0.0, 0.0, 7.0]
    with atlas.open(mine) as a:
        assert a.rows(
            "select count(*) from comparison_cards where run_id = ?", [outcome.run_id]
        ) == [(4,)]


def test_ceiling_and_floor_stand_beside(mine: Path) -> None:
    outcome = study.compare(
        mine,
        options(
            a="toy-a/0-resid_post", b="toy-c", ceiling="toy-b/0-resid_post", floor="toy-b",
            metrics=("cka",),
        ),
    )  # fmt: skip
    with atlas.open(mine) as a:
        roles = a.rows(
            "select role, sae_a, sae_b from comparisons join pairings using (pairing_id)"
            " where comparisons.run_id = ? order by role",
            [outcome.run_id],
        )
    assert roles == [("ceiling", 0, 2), ("floor", 2, 3), ("pair", 0, 3)]


def test_categories_are_families_of_their_own(mine: Path) -> None:
    with atlas.open(mine, write=True) as a:
        a.execute("delete from categories")
        a.execute(
            "insert into categories select 'all of them', lower(form), 'test' from"
            " (select distinct form from words)"
        )
    outcome = study.compare(mine, options(semantic=True, metrics=("cka",)))
    with atlas.open(mine) as a:
        rows = a.rows(
            "select subspace, n, p, q from comparison_cards where run_id = ? order by all",
            [outcome.run_id],
        )
        again = a.rows(
            "select p from compare(1, 3, metric := 'cka', subspace := 'all of them',"
            " min_joint := 3, permutations := 49, subsets := 19)"
        )
    assert [row[0] for row in rows] == ["all", "all", "all of them", "all of them"]
    assert len(again) == 1


@pytest.mark.parametrize(
    "given, kind, sentence",
    [
        ({"a": "toy-x"}, NotFound, "There is no 'toy-x' in this atlas"),
        ({"a": "toy-b", "b": "toy-b"}, BadInput, "'toy-b' and 'toy-b' are one SAE; name two"),
        ({"metrics": ("svca",)}, BadInput, "There is no measure 'svca'"),
        ({"ceiling": "toy-c"}, BadInput, "The ceiling 'toy-c' has no SAE at a hook point of"),
        ({"floor": "toy-c"}, BadInput, "The floor 'toy-c' has no SAE at a hook point of"),
        ({"floor": "toy-y"}, NotFound, "There is no 'toy-y' in this atlas"),
    ],
)
def test_a_study_that_cannot_be_is_refused(
    mine: Path, given: dict[str, Any], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind) as error:
        study.compare(mine, options(**given))
    assert str(error.value).startswith(sentence)
    with atlas.open(mine) as a:
        assert a.rows("from pairings") == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_nothing_is_written_where_nothing_may_be(mine: Path) -> None:
    mine.chmod(0o444)
    with pytest.raises(BadInput, match="write-protected"):
        study.compare(mine, options())
