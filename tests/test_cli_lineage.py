"""`atlas lineage`: the tree, the rows, the picture."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

import atlas
from tests.commandline import invoke, succeed, told


@pytest.fixture(scope="module")
def feature(layers):
    """In the second layer, passed on to the third, and with a twin, as what it comes from has."""
    twins = {a for a, _ in layers.truth.twins}
    after = dict(layers.truth.passes)
    return next(b for a, b in layers.truth.passes if b in after and {a, b} <= twins)


def rows(*args):
    return json.loads(succeed("lineage", *args, "-f", "json"))


def test_rows_are_the_macros(layers, feature):
    found = rows(layers.path, layers.name(feature), "--at-least", "0.4")
    with atlas.open(layers.path) as store:
        expected = store.rows(
            "select feature, steps, value, path from lineage(?, at_least := 0.4)", [feature]
        )
    assert [(row["feature"], row["steps"], row["value"], row["path"]) for row in found] == expected
    assert found[0]["label"].startswith("planted")


def test_a_pipe_gets_csv(layers, feature):
    text = succeed("lineage", layers.path, feature)
    assert len(list(csv.reader(io.StringIO(text)))) == 1 + len(rows(layers.path, feature))


@pytest.mark.parametrize(
    ("options", "directions"),
    [(["--up"], {-1, 0}), (["--down"], {0, 1}), (["--up", "--down"], {-1, 0, 1}), ([], {-1, 0, 1})],
)
def test_directions(layers, feature, options, directions):
    found = {row["steps"] for row in rows(layers.path, feature, *options, "--depth", "1")}
    assert found == directions


def test_options_are_the_macros(layers, feature):
    options = ["--measure", "jaccard", "--strong", "--at-least", "0.3", "--depth", "1"]
    found = rows(layers.path, feature, *options)
    with atlas.open(layers.path) as store:
        expected = store.rows(
            "select feature from lineage(?, measure := 'jaccard', strong := true, at_least := 0.3,"
            " depth := 1)",
            [feature],
        )
    assert [(row["feature"],) for row in found] == expected


def test_the_tree_has_every_feature_below_the_one_before(layers, feature):
    text = succeed("lineage", layers.path, feature, "-f", "tree", "--at-least", "0.95", "--across")
    lines = text.splitlines()
    assert lines[0].startswith(layers.name(feature))
    found = rows(layers.path, feature, "--at-least", "0.95", "--across")
    depth = {
        re.search(r"\w+/\S+/\d+", line)[0]: re.search(r"\w+/", line).start()
        for line in lines
        if re.search(r"\w+/\S+/\d+", line)
    }
    assert set(depth) == {row["feature"] for row in found}
    for row in found:
        if row["counterpart_of"]:
            assert depth[row["feature"]] > depth[row["counterpart_of"]]
        elif abs(row["steps"]) > 1:
            before = row["path"][-2] if row["steps"] > 0 else row["path"][1]
            assert depth[row["feature"]] > depth[before]
    assert "\x1b" not in text


def test_a_wide_tree_is_cut_and_says_so(layers, feature, monkeypatch):
    monkeypatch.setattr("atlas.cli.lineage._SHOWN", 1)
    found = rows(layers.path, feature, "--at-least", "0.05")
    text = succeed("lineage", layers.path, feature, "-f", "tree", "--at-least", "0.05")
    (shown,) = (row for row in found if row["steps"] and row["feature"] in text)
    assert shown["value"] == max(row["value"] for row in found if row["steps"])
    left_out = sum(int(n) for n in re.findall(r"… (\d+) more", text))
    assert 0 < left_out < len(found)


def test_nothing_that_strong(layers):
    (alone, *_) = sorted(layers.truth.dead & set(layers.ids("deep/1-resid_post")))
    assert "lower --at-least" in succeed("lineage", layers.path, alone, "-f", "tree")
    assert len(rows(layers.path, alone)) == 1


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_the_picture(layers, feature, tmp_path, ending):
    path = tmp_path / f"lineage.{ending}"
    args = ["lineage", layers.path, feature, "--across", "--plot", path]
    result = invoke(*args)
    assert result.exit_code == 0, result.output
    assert str(path) in result.stderr
    first = path.read_bytes()
    assert len(first) > 1000
    succeed(*args)
    assert path.read_bytes() == first


def test_the_picture_shows_names_layers_and_edges(layers, feature, tmp_path):
    path = tmp_path / "lineage.svg"
    found = rows(layers.path, feature, "--across")
    succeed("lineage", layers.path, feature, "--across", "--plot", path)
    text = path.read_text()
    for row in found:
        name = f"≈ {row['feature']}" if row["counterpart_of"] else row["feature"].rsplit("/", 1)[1]
        assert f">{name}</text>" in text
        assert f">{row['label']}</text>" in text
    for layer in range(3):
        assert f"{layer}-resid_post" in text


def test_what_cannot_be_done_is_told(layers, toy, feature, tmp_path):
    assert "There is no" in told(invoke("lineage", layers.path, "deep/9-resid_post/1"))
    assert "no format that can be drawn" in told(
        invoke("lineage", layers.path, feature, "--plot", tmp_path / "a.gif")
    )
    alone = min(layers.truth.dead)
    assert "nothing to draw" in told(
        invoke("lineage", layers.path, alone, "--plot", tmp_path / "a.svg")
    )
    assert not list(tmp_path.iterdir())
    assert invoke("lineage", layers.path, feature, "--depth", "0").exit_code == 2
