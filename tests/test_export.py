"""Files for papers: rows or features, written whole or not at all, with a manifest."""

from __future__ import annotations

import csv
import hashlib
import json

import duckdb
import pytest

import atlas
from atlas.errors import AtlasError, BadInput, NotFound, QueryError
from atlas.export import FORMATS, PARTS, chosen_features, export, features_query
from tests.synthetic import SAES

QUERY = "select feature_id, feature, density from feature_names join features using (feature_id)"
ORDERED = f"{QUERY} order by feature_id"


@pytest.fixture(scope="module")
def opened(toy):
    with atlas.open(toy) as store:
        yield store


def read(path, kind):
    if kind == "parquet":
        return duckdb.sql(f"from '{path}'").fetchall()
    text = path.read_text(encoding="utf-8")
    if kind == "csv":
        return [(int(a), b, float(c)) for a, b, c in list(csv.reader(text.splitlines()))[1:]]
    rows = json.loads(text) if kind == "json" else map(json.loads, text.splitlines())
    return [tuple(row.values()) for row in rows]


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_holds_the_rows(opened, tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    done = export(opened, ORDERED, path)
    expected = opened.rows(ORDERED)
    assert read(path, kind) == expected
    assert done.rows == len(expected)
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, f"{path.name}.manifest.json"]


@pytest.mark.parametrize("kind", FORMATS)
def test_manifest_tells_the_origin(opened, tmp_path, kind):
    done = export(opened, ORDERED, tmp_path / f"rows.{kind}")
    manifest = json.loads(done.manifest.read_text())
    data = done.path.read_bytes()
    assert manifest["sha256"] == done.sha256 == hashlib.sha256(data).hexdigest()
    assert manifest["rows"] == done.rows
    assert manifest["query"] == ORDERED
    assert manifest["atlas"]["stamp"] == opened.stamp
    assert {model["name"] for model in manifest["atlas"]["models"]} == {"toy-a", "toy-b", "toy-c"}
    assert manifest["versions"]["duckdb"] == duckdb.__version__
    assert manifest["versions"]["feature-atlas"] == atlas.__version__
    assert manifest["columns"] == {
        "feature_id": "BIGINT",
        "feature": "VARCHAR",
        "density": "DOUBLE",
    }


@pytest.mark.parametrize("kind", FORMATS)
def test_made_again_it_is_the_same_file(opened, tmp_path, kind):
    first = export(opened, ORDERED, tmp_path / f"a.{kind}")
    second = export(opened, ORDERED, tmp_path / f"b.{kind}")
    assert first.sha256 == second.sha256


@pytest.mark.parametrize("kind", FORMATS)
def test_failure_leaves_the_old_file(opened, tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    export(opened, "select 1 as a", path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(QueryError, match="too late"):
        export(opened, "select if(range = 99999, error('too late'), 1) from range(100000)", path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("rows.txt", "suffix"),
        ("nowhere/rows.csv", "does not exist"),
        (".", "folder|suffix"),
    ],
)
def test_refused_targets(opened, tmp_path, name, sentence):
    with pytest.raises(BadInput, match=sentence):
        export(opened, "select 1", tmp_path / name)


def test_the_atlas_itself_is_refused(opened):
    before = opened.path.stat()
    with pytest.raises(BadInput, match="the atlas itself"):
        export(opened, "select 1", opened.path, format="csv")
    assert opened.path.stat() == before


@pytest.mark.parametrize("kind", FORMATS)
def test_statement_without_rows_is_refused(opened, tmp_path, kind):
    with pytest.raises(AtlasError, match="rows"):
        export(opened, "set threads = 2", tmp_path / f"rows.{kind}")
    assert list(tmp_path.iterdir()) == []


# -- features -----------------------------------------------------------------------------------


def test_names_ids_patterns_and_files(opened, tmp_path):
    listed = tmp_path / "chosen.txt"
    listed.write_text("# two of them\n\ntoy-a/0-resid_post/5  # why\n7\n")
    assert chosen_features(opened, f"3, {SAES[0]}/1 ,@{listed},3") == [1, 3, 5, 7]
    layer = opened.rows("select feature_id from feature_names where sae = ? order by 1", [SAES[1]])
    assert chosen_features(opened, "toy-a/1-*") == [row[0] for row in layer]
    assert chosen_features(opened, "toy-?/[02]-resid_post/0") == [
        row[0] for row in opened.rows(
            "select feature_id from feature_names where index = 0 and layer in (0, 2) order by 1"
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "error"),
    [
        ("toy-a/9-*", NotFound),
        ("toy-a/0-resid_post/99", NotFound),
        (" , ", BadInput),
        ("@/nowhere/list.txt", BadInput),
    ],
)
def test_unknown_features(opened, names, error):
    with pytest.raises(error):
        chosen_features(opened, names)


def test_one_row_a_feature_with_what_was_asked_for(opened, tmp_path):
    ids = [0, 1, 2, 23, 90]
    path = export(opened, features_query(ids, list(PARTS)), tmp_path / "f.parquet").path
    found = duckdb.sql(f"from '{path}'").to_dicts()
    assert [row["feature_id"] for row in found] == ids
    for row in found:
        one = [row["feature_id"]]
        assert row["feature"] == opened.feature_name(row["feature_id"])
        expected = opened.row("select decoder, signature from vectors where feature_id = ?", one)
        assert row["decoder"] == expected[0]
        assert row["signature"] == list(expected[1])
        for part, table in (("labels", "labels"), ("examples", "examples"),
                            ("activations", "activations")):  # fmt: skip
            (count,) = opened.row(f"select count(*) from {table} where feature_id = ?", one)
            assert len(row[part] or []) == count
        if row["alive"]:
            assert max(a["activation"] for a in row["activations"]) == row["max_activation"]


def test_nothing_is_added_unasked(opened):
    plain = opened.sql(features_query([3])).columns
    assert plain == opened.sql("from feature_cards").columns
    assert opened.sql(features_query([3], ["labels"])).columns == [*plain, "labels"]


def test_unknown_part():
    with pytest.raises(BadInput, match="labels, examples, vectors, activations"):
        features_query([3], ["weights"])


def test_query_of_a_whole_sae_stays_short():
    assert len(features_query(range(100_000))) < 1000
