"""Metrics in SQL: their definitions, the frontier, histograms and near duplicates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import atlas
from atlas import Atlas
from atlas.errors import NotFound
from atlas.ingest.measuring.functions import ABSORPTION_SCHEMA, PROBE_SCHEMA
from atlas.summary import sae_summary
from tests.sweep import build_sweep
from tests.synthetic import SAES


@pytest.fixture(scope="module")
def toy_store(toy: Path) -> Iterator[Atlas]:
    with atlas.open(toy) as opened:
        yield opened


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atlas]:
    with atlas.open(build_sweep(tmp_path_factory.mktemp("sweep") / "sweep.atlas")) as opened:
        yield opened


def test_each_metric_is_defined_once(toy_store: Atlas) -> None:
    rows = toy_store.rows("select metric, better, version, definition, source from metrics")
    names = [row[0] for row in rows]
    assert len(set(names)) == len(names)
    for _, better, version, definition, source in rows:
        assert better in ("higher", "lower", "neither")
        assert version >= 1
        assert len(definition) > 20
        assert source


def test_every_metric_that_is_measured_is_defined(toy_store: Atlas) -> None:
    from atlas.ingest.measuring import absorption, probing

    probes = [probing.Probe("x", k, (), 1, 1, 0.5, 0.5, 0.5) for k in probing.SIZES]
    letters = [absorption.Absorption("x", 1.0, (1,), 1.0, 1, 0.0, 0.0, ())] * 5
    measured = probing.probe_metrics(probes) | absorption.absorption_metrics(letters)
    defined = {name for (name,) in toy_store.rows("select metric from metrics")}
    assert set(measured) <= defined
    stored = {name for (name,) in toy_store.rows("select distinct metric from sae_metrics")}
    assert stored <= defined


@pytest.mark.parametrize(
    ("table", "schema"), [("probes", PROBE_SCHEMA), ("absorptions", ABSORPTION_SCHEMA)]
)
def test_rows_of_functions_have_the_columns_of_their_table(toy_store, table, schema) -> None:
    columns = toy_store.rows(
        "select column_name, data_type from duckdb_columns() where table_name = ?"
        " order by column_index",
        [table],
    )
    types = {
        "int32": "INTEGER", "int64": "BIGINT", "double": "DOUBLE", "string": "VARCHAR",
        "list<element: int32>": "INTEGER[]", "list<item: int32>": "INTEGER[]",
    }  # fmt: skip
    found = [(field.name, types[str(field.type)]) for field in schema]
    assert [("sae_id", "INTEGER"), *found] == columns


def test_the_frontier_is_what_nothing_beats(sweep: Atlas) -> None:
    rows = sweep.rows("select sae, model, writes, metric, better, l0, value, best from frontier")
    assert {row[3] for row in rows} >= {"ce_spliced", "explained_variance"}
    assert not {"l0", "ce", "dead_share"} & {row[3] for row in rows}
    n_best = 0
    for sae, model, writes, metric, better, l0, value, best in rows:
        sign = 1 if better == "lower" else -1
        beaten = any(
            other[1:4] == (model, writes, metric)
            and (other[5] <= l0 and sign * other[6] <= sign * value)
            and (other[5] < l0 or sign * other[6] < sign * value)
            for other in rows
        )
        assert best is not beaten, sae
        n_best += best and metric == "ce_spliced" and writes == "2-resid_post"
    assert 1 < n_best < 15


def test_equals_do_not_beat_each_other_and_contexts_keep_apart(tmp_path: Path) -> None:
    path = build_sweep(tmp_path / "sweep.atlas")
    with atlas.open(path, write=True) as store:
        store.execute(
            "update sae_metrics set value = case metric when 'l0' then 8 else 2.1 end"
            " where sae_id >= 100 and metric in ('l0', 'ce_spliced')"
        )
        asked = "select bool_and(best) from frontier where sae_id >= 100 and metric = 'ce_spliced'"
        assert store.row(asked) == (True,)
        worse = "update sae_metrics set value = 3 where sae_id = 100 and metric = 'ce_spliced'"
        store.execute(worse)
        assert store.row(asked) == (False,)
        store.execute("update saes set context = 64 where sae_id = 100")
        assert store.row(asked) == (True,)


@pytest.mark.parametrize("per_decade", [1, 2, 5])
def test_the_density_histogram_is_numpys(toy_store: Atlas, per_decade: int) -> None:
    rows = toy_store.rows(
        "select sae, at_least, below, features from density_histogram(null, per_decade := ?)",
        [per_decade],
    )
    for sae in SAES:
        density = np.array(
            toy_store.rows("select density from features join saes using (sae_id) where name = ?",
                           [sae])
        ).ravel()  # fmt: skip
        mine = [row[1:] for row in rows if row[0] == sae]
        dead, bins = mine[0], mine[1:]
        assert dead == (0, 0, (density == 0).sum())
        edges = np.array([bins[0][0], *(below for _, below, _ in bins)])
        np.testing.assert_allclose([at for at, _, _ in bins[1:]], edges[1:-1])
        np.testing.assert_allclose(np.diff(np.log10(edges)), 1 / per_decade)
        counts, _ = np.histogram(density[density > 0], edges)
        assert [n for _, _, n in bins] == counts.tolist()
        assert counts.sum() == (density > 0).sum()


def test_a_power_of_ten_begins_its_bin(tmp_path: Path) -> None:
    path = build_sweep(tmp_path / "sweep.atlas")
    with atlas.open(path, write=True) as store:
        store.execute("update features set density = pow(10, -(1 + feature_id % 4))")
        rows = store.rows("select round(log10(at_least), 6) from density_histogram(?)", [SAES[0]])
    assert [row[0] for row in rows[::2]] == [-4, -3, -2, -1]


def test_near_duplicates_are_numpys(toy_store: Atlas) -> None:
    rows = toy_store.rows(
        "select feature_id, decoder from vectors join features using (feature_id)"
        " where sae_id = 1 order by feature_id"
    )
    decoder = np.array([row[1] for row in rows], float)
    unit = decoder / np.linalg.norm(decoder, axis=1, keepdims=True)
    cosine = np.triu(unit @ unit.T, 1)
    a, b = np.nonzero(cosine >= 0.4)
    expected = sorted(zip(-cosine[a, b], a + 24, b + 24, strict=True))
    assert len(expected) > 3
    found = toy_store.rows(
        "select -cosine, feature_id_a, feature_id_b from near_duplicates(?, least := 0.4)",
        [SAES[1]],
    )
    assert [row[1:] for row in found] == [row[1:] for row in expected]
    np.testing.assert_allclose([row[0] for row in found], [row[0] for row in expected], atol=1e-9)


def test_cards_name_what_is_read_and_written(toy_store: Atlas) -> None:
    rows = toy_store.rows("select sae, reads, writes, kl, dense_share from sae_cards")
    for sae, reads, writes, kl, dense_share in rows:
        assert reads == writes == [sae.partition("/")[2]]
        assert kl == 0.25
        assert dense_share is not None


def test_views_name_features(toy_store: Atlas) -> None:
    assert toy_store.rows(
        "select features, share from probe_scores where sae_id = 1 and property = 'first_of_word'"
        " and k = 5"
    ) == [([f"{SAES[1]}/{i}" for i in range(1, 6)], 0.1)]
    assert toy_store.rows(
        "select main_features, absorbers from absorption_scores where sae_id = 1 order by letter"
    ) == [([f"{SAES[1]}/3"], [f"{SAES[1]}/4"]), ([f"{SAES[1]}/5", f"{SAES[1]}/6"], [])]


def test_summary_of_an_sae(tmp_path: Path) -> None:
    path = build_sweep(tmp_path / "sweep.atlas")
    with atlas.open(path, write=True) as store:
        store.execute("insert into declared_metrics values (1, 'l0', 1.5)")
        store.execute(
            """update saes set quality = 'conforms', conventions = '{"format": "x"}'"""
            " where sae_id = 1"
        )
    with atlas.open(path) as store:
        found = sae_summary(store, SAES[1])
        assert found == sae_summary(store, 1)
        assert found.card["quality"] == "conforms"
        assert found.conventions == {"format": "x"}
        stored = dict(store.rows("select metric, value from sae_metrics where sae_id = 1"))
        assert {one["metric"]: one["value"] for one in found.metrics} == stored
        assert {one["metric"]: one["declared"] for one in found.metrics if one["declared"]} == {
            "l0": 1.5
        }
        assert found.metrics[0]["definition"] == "mean number of features active on a token"
        assert sum(one["features"] for one in found.density) == 24
        assert len(found.probes) == 4
        assert [one["letter"] for one in found.absorptions] == ["a", "s"]
        assert sae_summary(store, SAES[0]).conventions is None
        with pytest.raises(NotFound, match=r"There is no 'toy-a/9'.*toy-a/0-resid_post"):
            sae_summary(store, "toy-a/9")
