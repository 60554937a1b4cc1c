"""`atlas lineage`: the tree, the rows, the picture."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys

import pytest
from rich.console import Console

import atlas
from tests import planted_layers
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


def test_a_feature_without_a_neighbouring_layer_is_told_so(layers, tmp_path):
    path = shutil.copyfile(layers.path, tmp_path / "alone.atlas")
    with atlas.open(path, write=True) as store, store.transaction():
        store.execute("update saes set variant = 'wide' where name = 'deep/1-resid_post'")
    alone = min(layers.ids("deep/1-resid_post"))
    says = "deep has no resid_post-wide SAE in another layer"
    assert says in succeed("lineage", path, alone, "-f", "tree")
    picture = tmp_path / "a.svg"
    assert says in told(invoke("lineage", path, alone, "-f", "tree", "--plot", picture))
    last = f"deep/{planted_layers.DEPTH - 1}-resid_post"
    feature = min(layers.ids(last))
    text = succeed("lineage", layers.path, feature, "--down", "-f", "tree")
    assert "deep has no resid_post SAE in a later layer" in text


@pytest.mark.parametrize("options", [["-f", "tree"], ["-f", "csv"], ["--plot", "a.svg"]])
def test_layers_that_are_not_linked_are_told(layers, feature, tmp_path, options):
    path = shutil.copyfile(layers.path, tmp_path / "gap.atlas")
    with atlas.open(path, write=True) as store:
        store.execute("delete from links where link_id = 0")
    assert "are not linked; run `atlas link" in told(invoke("lineage", path, feature, *options))


def test_mutual_information_has_its_own_threshold_and_is_not_multiplied(layers, feature):
    options = ["--measure", "mutual_information"]
    found = rows(layers.path, feature, *options)
    assert found == rows(layers.path, feature, *options, "--at-least", "0.01")
    far = [row for row in found if abs(row["steps"]) > 1 and row["value"] < row["weakest"]]
    assert far
    text = succeed("lineage", layers.path, feature, *options, "-f", "tree")
    shown = dict(map(reversed, re.findall(r"(\d\.\d{3})  (\S+/\d+)", text)))
    assert len(shown) == len(found) - 1
    for row in found:
        if row["steps"]:
            assert shown[row["feature"]] == f"{row['weakest']:.3f}"
    assert "least mutual_information along the strongest path, in nats" in text
    assert rows(layers.path, feature) == rows(layers.path, feature, "--at-least", "0.5")


@pytest.mark.parametrize("width", [40, 60])
def test_a_narrow_terminal_loses_labels_first(layers, monkeypatch, width):
    with atlas.open(layers.path) as store:
        feature, many, n_paths = store.rows(
            "select f.feature_id, d.feature, d.n_paths from features f,"
            " descendants(f.feature_id, at_least := 0) d"
            " order by d.n_paths desc, f.feature_id, d.feature_id limit 1"
        )[0]
    assert n_paths > 1
    options = ["--at-least", "0", "-f", "tree"]
    whole = succeed("lineage", layers.path, feature, *options)
    monkeypatch.setattr(
        "atlas.cli.lineage.console",
        lambda: Console(highlight=False, width=width, file=sys.stdout, color_system=None),
    )
    narrow = succeed("lineage", layers.path, feature, *options)
    pairs = list(zip(whole.splitlines()[:-1], narrow.splitlines(), strict=False))
    assert any(long != short for long, short in pairs)
    for long, short in pairs:
        assert len(short) <= width
        if long.rstrip() != short.rstrip():
            assert short.endswith("…")
            assert long.startswith(short[:-1])
    assert f"{many}  ({n_paths:,} paths)" in (narrow if width == 60 else whole)


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
