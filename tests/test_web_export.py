"""The page as one file: what it holds, and that nothing in it can break out or call home."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from layers import build_layers, page

import atlas
from atlas.web import export
from tests.commandline import invoke, succeed, told


class Elements(HTMLParser):
    """What a browser makes of the file: [(tag, attributes, text)]."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes), ""))

    def handle_endtag(self, tag):
        self.found.append(("", {}, ""))

    def handle_data(self, data):
        if self.found:
            tag, attributes, text = self.found[-1]
            self.found[-1] = (tag, attributes, text + data)

    def of(self, tag):
        return [(attributes, text) for one, attributes, text in self.found if one == tag]


def held(path):
    (data,) = [
        text
        for attributes, text in Elements(path.read_text("utf-8")).of("script")
        if attributes.get("id") == "atlas-data"
    ]
    return json.loads(data)


def answers(data, path):
    return [one for one in data["answers"] if one["path"] == path]


@pytest.fixture(scope="module")
def written(toy, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "page.html"
    said = succeed("view", toy, "--export", path, "--features", "toy-a/1-*", "--most", 5)
    return path, said


def test_the_chosen_and_those_linked_with_them(written, toy):
    path, said = written
    data = held(path)
    names = [one["params"]["name"] for one in answers(data, "/api/feature")]
    assert len([name for name in names if name.startswith("toy-a/1-")]) >= 5
    assert len(names) == len(set(names))
    assert any(name.startswith("toy-a/0-") for name in names)
    assert re.search(r"KiB|MiB", said)
    assert "5 features and" in said
    assert "16 more were left out" in said
    with page(toy) as client:
        for one in answers(data, "/api/feature"):
            asked = {**one["params"], "contexts": 8}
            assert client.get("/api/feature", params=asked).json() == one["body"]
        for path in ("/api/lineage", "/api/flow"):
            for one in answers(data, path):
                assert client.get(path, params=one["params"]).json() == one["body"]
        near = answers(data, "/api/neighbours")
        assert len(near) == 5
        for one in near:
            asked = {**one["params"], "k": 5}
            assert client.get("/api/neighbours", params=asked).json() == one["body"]
        for one in answers(data, "/api/edge"):
            full = client.get("/api/edge", params=one["params"]).json()
            assert {key: full[key] for key in one["body"]} == pytest.approx(one["body"])


def test_the_graph_is_of_these_features_alone(tmp_path):
    deep = build_layers(tmp_path / "deep.atlas")
    path = tmp_path / "page.html"
    succeed("view", deep, "--export", path, "--features", "deep/1-*", "--most", 9, "--no-similar")
    data = held(path)
    features = {one["body"]["card"]["feature_id"] for one in answers(data, "/api/feature")}
    ((graph),) = [one["body"] for one in answers(data, "/api/graph")]
    assert graph["complete"]
    assert {node["id"] for node in graph["nodes"]} == features
    for layer in graph["layers"]:
        y = sorted(node["y"] for node in graph["nodes"] if node["layer"] == layer["layer"])
        assert y == pytest.approx([(i + 0.5) / layer["n"] for i in range(layer["n"])])
    places = {node["id"]: node["y"] for node in graph["nodes"]}
    assert graph["edges"]
    for edge in graph["edges"]:
        assert (edge["ya"], edge["yb"]) == (places[edge["a"]], places[edge["b"]])
    assert len(answers(data, "/api/edge")) == len(graph["edges"])


def test_it_may_run_its_own_script_and_nothing_else(written):
    elements = Elements(written[0].read_text("utf-8"))
    (policy,) = [
        attributes["content"]
        for attributes, _ in elements.of("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; ")
    scripts = [text for attributes, text in elements.of("script") if "id" not in attributes]
    for kind, texts in (("script", scripts), ("style", [t for _, t in elements.of("style")])):
        (text,) = texts
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    for _, attributes, _ in elements.found:
        assert not {"src", "href", "onload", "onerror", "style"} & set(attributes)


def test_no_text_ends_its_element():
    nasty = '</script><script>alert(1)</script><!-- <script> & \u2028\u2029 ]]> "\\u003c'
    text = export.page(json.dumps({"note": nasty}, ensure_ascii=False))
    elements = Elements(text)
    assert len(elements.of("script")) == 2
    (data,) = [t for a, t in elements.of("script") if a.get("id") == "atlas-data"]
    assert json.loads(data)["note"] == nasty
    assert not {"<", ">", "&", "\u2028", "\u2029"} & set(data)


def test_where_the_atlas_lay_is_not_told(written, toy):
    assert str(toy.parent) not in written[0].read_text("utf-8")


def test_features_by_query_keep_its_order(toy, tmp_path):
    path = tmp_path / "page.html"
    query = "select feature from feature_names where sae = 'toy-c/2-resid_post' order by index desc"
    succeed("view", toy, "--export", path, "--sql", query, "--most", 4, "--no-similar")
    names = [one["params"]["name"] for one in answers(held(path), "/api/feature")]
    assert names[:4] == [f"toy-c/2-resid_post/{i}" for i in (23, 22, 21, 20)]


def test_without_a_choice_the_best_labelled(toy, tmp_path):
    path = tmp_path / "page.html"
    succeed("view", toy, "--export", path, "--most", 3, "--no-similar")
    names = [one["params"]["name"] for one in answers(held(path), "/api/feature")]
    with atlas.open(toy) as opened:
        best = opened.rows(
            "select feature from feature_cards where alive"
            " order by label_score desc nulls last, density desc, feature_id limit 3"
        )
    assert names[:3] == [name for (name,) in best]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--features", "nobody/*"], "No feature in"),
        (["--features", "toy-a/0-resid_post/99"], "0 to 23"),
        (["--sql", "select 1 as one"], "column feature"),
        (["--sql", "selec"], "syntax error"),
        (["--sql", "select feature_id from features where false"], "gives no features"),
    ],
)
def test_what_cannot_be_chosen_is_told(toy, tmp_path, words, said):
    path = tmp_path / "page.html"
    assert said in told(invoke("view", toy, "--export", path, *words))
    assert not path.exists()


def test_the_atlas_is_not_written_over(toy):
    before = toy.stat()
    assert "another name" in told(invoke("view", toy, "--export", toy))
    assert toy.stat() == before


def test_options_of_export_need_it(toy):
    assert invoke("view", toy, "--features", "toy-a/*").exit_code == 2
    words = ["--export", "x.html", "--features", "a", "--sql", "b"]
    assert invoke("view", toy, *words).exit_code == 2
