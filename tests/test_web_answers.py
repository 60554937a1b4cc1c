"""What the page is told of features, models and comparisons: the same as SQL and Python say."""

from __future__ import annotations

import dataclasses
import json

import pytest
from layers import page

import atlas
from atlas.web.viewed import Viewed

NAME = "toy-a/1-resid_post/3"


@pytest.fixture(scope="module")
def client(toy):
    with page(toy) as opened:
        yield opened


@pytest.fixture(scope="module")
def store(toy):
    with atlas.open(toy) as opened:
        yield opened


def ask(client, path, **asked):
    response = client.get(path, params=asked)
    assert response.status_code == 200, response.text
    return response.json()


def test_the_atlas_at_a_glance(client, store):
    found = ask(client, "/api/atlas")
    assert found["corpus"]["n_documents"] == 40
    assert [one["model"] for one in found["models"]] == ["toy-a", "toy-b", "toy-c"]
    for model in found["models"]:
        for sae in model["saes"]:
            ((alive,),) = store.rows(
                "select count(*) from features where alive and sae_id = sae_id(?)", [sae["sae"]]
            )
            assert sae["n_alive"] == alive
    assert {"model": "toy-a", "hook": "resid_post", "variant": None, "layers": [0, 1]} in found[
        "graphs"
    ]
    assert len(found["links"]) == store.row("select count(*) from links")[0]
    assert (
        sum(one["n"] for one in found["comparisons"])
        == (store.row("select count(*) from universality")[0])
    )
    assert "pearson" in found["measures"]
    assert found["sentence"] == ["toy-a", "toy-b", "toy-c"]  # 'synthetic' might be of the hub


@pytest.mark.parametrize("words", ["happy", "lily dog", "naive", "nothing at all"])
def test_search_is_find(client, store, words):
    found = ask(client, "/api/search", q=words, limit=9)["results"]
    rows = store.rows("select feature, score, label from find(?, n := 9)", [words])
    assert [(one["feature"], one["score"], one["label"]) for one in found] == rows


def test_search_within_a_model(client):
    found = ask(client, "/api/search", q="happy", within="toy-c")["results"]
    assert {one["model"] for one in found} == {"toy-c"}


def test_search_without_words_is_by_label(client, store):
    found = ask(client, "/api/search", within="toy-a", limit=200)["results"]
    rows = store.rows(
        """
        select feature, label, label_score from feature_cards
        where model = 'toy-a' and label is not null
        order by label_score desc nulls last, density desc, feature_id
        """
    )
    assert rows
    assert [(one["feature"], one["label"], one["label_score"]) for one in found] == rows
    assert all(one["score"] is None for one in found)


def test_a_feature_is_its_card(client, store):
    found = ask(client, "/api/feature", name=NAME)
    card = atlas.cards.card(store, NAME, contexts=20, tops=20)
    assert found["card"] == json.loads(json.dumps(dataclasses.asdict(card)))
    assert sum(found["histogram"]["counts"]) == card.n_active
    assert len(found["histogram"]["edges"]) == len(found["histogram"]["counts"]) + 1
    assert found["histogram"]["edges"][-1] == pytest.approx(card.max_activation)
    assert found["place"] == [{"model": "toy-a", "hook": "resid_post", "variant": None}]
    assert ask(client, "/api/feature", name=card.feature_id) == found


def test_a_histogram_counts_activations(client, store):
    found = ask(client, "/api/feature", name=NAME)["histogram"]
    strengths = [
        q * scale
        for q, scale in store.rows(
            """
            select q, scale from activations join features using (feature_id)
            join saes using (sae_id) where feature_id = feature_id(?)
            """,
            [NAME],
        )
    ]
    width = found["edges"][1]
    bins = [min(int(one / width), len(found["counts"]) - 1) for one in strengths]
    assert [bins.count(i) for i in range(len(found["counts"]))] == found["counts"]


def test_a_dead_feature_has_a_page(client):
    found = ask(client, "/api/feature", name="toy-a/0-resid_post/23")
    assert not found["card"]["alive"]
    assert found["histogram"] == {"edges": [], "counts": []}
    models = ask(client, "/api/neighbours", name="toy-a/0-resid_post/23")["models"]
    assert [one["neighbours"] for one in models] == [[], [], []]


def test_neighbours_are_similar_s(client, store):
    found = ask(client, "/api/neighbours", name=NAME, k=3)["models"]
    for model in found:
        hits = store.similar(NAME, 3, within=model["model"])
        assert [(one["feature"], one["score"]) for one in model["neighbours"]] == [
            (hit.feature, hit.score) for hit in hits
        ]
        assert all(one["sae"] == one["feature"].rpartition("/")[0] for one in model["neighbours"])


def test_a_heatmap_is_universality(client, store):
    one = ask(client, "/api/atlas")["comparisons"][0]
    asked = {"a": one["model_a"], "b": one["model_b"], "metric": one["metric"]}
    rows = ask(client, "/api/heatmap", **asked, subspace=one["subspace"])["rows"]
    assert len(rows) == one["n"]
    for row in rows:
        value = store.row(
            "select value from universality where sae_a = ? and sae_b = ? and metric = ?"
            " and subspace = ? and run_id = ? and pairing_id = ?",
            [row[k] for k in ("sae_a", "sae_b", "metric", "subspace", "run_id", "pairing_id")],
        )
        assert value == (row["value"],)
    pairs = ask(client, "/api/pairs", pairing_id=rows[0]["pairing_id"], limit=5)
    assert pairs["sae_a"] == rows[0]["sae_a"]
    r = [pair["r"] for pair in pairs["pairs"]]
    assert r == sorted(r, reverse=True)


def test_an_edge_is_the_macro_s(client, store):
    found = ask(client, "/api/edge", a="toy-a/0-resid_post/1", b=NAME)
    row = store.sql("from edge(?, ?)", ["toy-a/0-resid_post/1", NAME]).to_arrow_table()
    assert found == row.to_pylist()[0]


def test_a_lineage_goes_on_in_other_models(client, store):
    within = ask(client, "/api/lineage", name=NAME, at_least=0.3)
    found = ask(client, "/api/lineage", name=NAME, at_least=0.3, across=1)
    names = {node["feature"] for node in found["nodes"]}
    assert len(names) == len(found["nodes"])
    assert {node["feature"] for node in within["nodes"]} < names
    assert {node["model"] for node in found["nodes"]} == {"toy-a", "toy-b", "toy-c"}
    pairs = [edge for edge in found["edges"] if edge.get("across")]
    assert pairs
    for edge in pairs:
        assert {edge["a"], edge["b"]} <= names
        stored = store.rows(
            "select r from counterparts where feature = ? and counterpart = ?",
            [edge["a"], edge["b"]],
        )
        assert edge["value"] in [round(r, 5) for (r,) in stored]
    lonely = ask(client, "/api/lineage", name="toy-b/0-resid_post/1", at_least=0.3, across=1)
    assert len(lonely["nodes"]) == len(lonely["edges"]) + 1


@pytest.mark.parametrize(
    ("path", "asked", "status"),
    [
        ("/api/search", {"q": "happy", "within": "nobody"}, 422),
        ("/api/search", {"q": "happy", "limit": "many"}, 400),
        ("/api/heatmap", {"a": "toy-a", "b": "nobody"}, 404),
        ("/api/pairs", {"pairing_id": "99"}, 404),
        ("/api/edge", {"a": NAME}, 400),
    ],
)
def test_what_is_not_there_is_told(client, path, asked, status):
    response = client.get(path, params=asked)
    assert response.status_code == status
    assert response.json()["error"].endswith((".", "?"))


def test_an_older_file_has_less_and_says_so(toy, monkeypatch):
    newer = {
        "links", "edges", "clusterings", "communities", "universality", "counterparts",
        "pairing_cards",
    }  # fmt: skip
    monkeypatch.setattr(Viewed, "has", lambda _, *tables: not newer & set(tables))
    with page(toy) as client:
        found = ask(client, "/api/atlas")
        assert [found[key] for key in ("graphs", "links", "clusterings", "comparisons")] == [[]] * 4
        card = ask(client, "/api/feature", name=NAME)
        assert card["communities"] == card["place"] == []
        alone = ask(client, "/api/lineage", name=NAME, across=1)
        assert [node["feature"] for node in alone["nodes"]] == [NAME]
        for path, asked in {
            "/api/graph": {"model": "toy-a", "hook": "resid_post"},
            "/api/edge": {"a": NAME, "b": NAME},
            "/api/heatmap": {"a": "toy-a", "b": "toy-b"},
            "/api/pairs": {"pairing_id": 0},
            "/api/communities": {"clustering": 0},
        }.items():
            response = client.get(path, params=asked)
            assert response.status_code == 404
            assert str(toy) in response.json()["error"]


def test_large_answers_are_packed(client):
    response = client.get(
        "/api/feature", params={"name": NAME}, headers={"Accept-Encoding": "gzip"}
    )
    packed = response.headers.get("content-encoding") == "gzip"
    assert packed == (len(response.content) >= 1 << 15)
    assert response.headers["cache-control"] == "no-store"
