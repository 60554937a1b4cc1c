"""The layered graph by windows: against what the view `edges` says, and its drawing order."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layers import build_layers, page

import atlas
from atlas.web.order import layered_positions

WHERE = {"model": "deep", "hook": "resid_post"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return build_layers(tmp_path_factory.mktemp("layers") / "deep.atlas")


@pytest.fixture(scope="module")
def client(path):
    with page(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def edges(path):
    """(a, b) → Pearson's r, of all stored pairs."""
    with atlas.open(path) as opened:
        rows = opened.rows("select feature_id_a, feature_id_b, pearson from edges")
    return {(a, b): r for a, b, r in rows}


@pytest.fixture(scope="module")
def whole(client):
    return ask(client, at_least=0, top=10, limit=20_000)


def ask(client, path="/api/graph", **asked):
    response = client.get(path, params={**WHERE, **asked})
    assert response.status_code == 200, response.text
    return response.json()


def strongest(edges, at_least, top):
    """The `top` strongest edges of each upstream feature, of those that are strong enough."""
    found = set()
    for a in {a for a, _ in edges}:
        mine = sorted((-r, b) for (one, b), r in edges.items() if one == a and r >= at_least)
        found |= {(a, b) for _, b in mine[:top]}
    return found


def test_the_whole_graph_has_every_live_feature_once(whole, path):
    with atlas.open(path) as opened:
        live = opened.rows("select feature_id, density from features where alive")
    assert whole["complete"]
    assert {node["id"]: node["density"] for node in whole["nodes"]} == dict(live)
    assert whole["totals"]["nodes"] == len(live)


@pytest.mark.parametrize("at_least", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("top", [1, 3])
def test_edges_are_the_strongest_of_each_feature(client, edges, at_least, top):
    found = ask(client, at_least=at_least, top=top, limit=20_000)
    positive = {pair: r for pair, r in edges.items() if r > 0}
    assert {(one["a"], one["b"]) for one in found["edges"]} == strongest(positive, at_least, top)
    for one in found["edges"]:
        assert one["value"] == pytest.approx(edges[one["a"], one["b"]], abs=1e-5)
    values = [one["value"] for one in found["edges"]]
    assert values == sorted(values, reverse=True)


def test_each_layer_s_places_are_even(whole):
    for layer in whole["layers"]:
        y = sorted(node["y"] for node in whole["nodes"] if node["layer"] == layer["layer"])
        assert y == pytest.approx((np.arange(layer["n"]) + 0.5) / layer["n"], abs=1e-6)


@pytest.mark.parametrize(
    "window",
    [
        {"y0": 0.2, "y1": 0.55},
        {"from_layer": 1, "to_layer": 2},
        {"from_layer": 3, "to_layer": 3, "y0": 0.5, "y1": 1},
        {"y0": 0.5, "y1": 0.5},
        {"from_layer": 2, "to_layer": 1},
    ],
)
def test_a_window_is_a_part_of_the_whole(client, whole, window):
    found = ask(client, at_least=0, top=10, limit=20_000, **window)
    first, last = window.get("from_layer", 0), window.get("to_layer", 9)
    inside = {
        node["id"]
        for node in whole["nodes"]
        if first <= node["layer"] <= last and window.get("y0", 0) <= node["y"] < window.get("y1", 1)
    }
    assert {node["id"] for node in found["nodes"]} == inside
    touching = [one for one in whole["edges"] if {one["a"], one["b"]} & inside]
    assert found["edges"] == touching
    assert not found["complete"]


def test_from_afar_bands_add_up(client, whole):
    found = ask(client, at_least=0.3, top=10, limit=10, bins=8)
    assert found["nodes"] == found["edges"] == []
    near = ask(client, at_least=0.3, top=10, limit=20_000)
    band = {node["id"]: (node["layer"], int(node["y"] * 8)) for node in near["nodes"]}
    counts = Counter(band.values())
    assert {(one["layer"], one["bin"]): one["n"] for one in found["bands"]} == counts
    for kind in ("appearing", "disappearing"):
        of_kind = Counter(band[node["id"]] for node in near["nodes"] if node[kind])
        assert {(o["layer"], o["bin"]): o[kind] for o in found["bands"] if o[kind]} == of_kind
    flows = Counter((*band[one["a"]], *band[one["b"]]) for one in near["edges"])
    assert flows == {
        (one["layer_a"], one["bin_a"], one["layer_b"], one["bin_b"]): one["n"]
        for one in found["flows"]
    }
    for one in found["bands"]:
        mine = [n for n in near["nodes"] if band[n["id"]] == (one["layer"], one["bin"])]
        sizes = Counter(node["community"] for node in mine)
        assert one["share"] == pytest.approx(max(sizes.values()) / len(mine))
        assert sizes[one["community"]] == max(sizes.values())
        assert one["density"] == pytest.approx(np.mean([node["density"] for node in mine]))


def test_the_limit_bounds_edges_too(client):
    found = ask(client, at_least=0, top=10, limit=250)
    assert len(found["edges"]) == 500
    assert found["totals"]["edges"] > 500
    assert not found["complete"]


def test_kinds_go_by_the_strongest_edge(client, edges):
    found = ask(client, at_least=0.6, top=1, limit=20_000)
    goes = {a for (a, _), r in edges.items() if r >= 0.6}
    comes = {b for (_, b), r in edges.items() if r >= 0.6}
    for node in found["nodes"]:
        last, first = node["layer"] == 3, node["layer"] == 0
        assert node["passed"] == (None if last else node["id"] in goes)
        assert node["disappearing"] == (None if last else node["id"] not in goes)
        assert node["appearing"] == (None if first else node["id"] not in comes)


def test_flow_counts_the_same(client, edges, whole):
    found = ask(client, "/api/flow", at_least=0.6)
    live = Counter(node["layer"] for node in whole["nodes"])
    for step in found["steps"]:
        pairs = [pair for pair, r in edges.items() if r >= 0.6 and pair[0] // 60 == step["layer_a"]]
        passed_a, passed_b = (len({pair[i] for pair in pairs}) for i in (0, 1))
        assert (step["passed_a"], step["passed_b"]) == (passed_a, passed_b)
        assert step["disappearing"] == live[step["layer_a"]] - passed_a
        assert step["appearing"] == live[step["layer_b"]] - passed_b
    assert [one["n_alive"] for one in found["layers"]] == [live[i] for i in range(4)]


def test_flow_is_the_macro_s(client, path):
    steps = ask(client, "/api/flow", at_least=0.6)["steps"]
    with atlas.open(path) as opened:
        rows = opened.rows("select layer, kind, n from layer_flow('deep', at_least := 0.6)")
    named = {
        "passed": "passed_a",
        "received": "passed_b",
        "appearing": "appearing",
        "disappearing": "disappearing",
    }
    by_layer = {step["layer_a"]: step for step in steps}
    assert len(rows) == 4 * len(steps)
    for layer, kind, n in rows:
        assert by_layer[layer][named[kind]] == n


def test_features_are_found_whatever_the_window(client, whole):
    wanted = [whole["nodes"][i]["id"] for i in (0, 100, 200)]
    given_ids = ",".join(map(str, [*wanted, 10**9, -3, "x", ""]))
    found = ask(client, y0=0.4, y1=0.41, find=given_ids)["found"]
    nodes = {node["id"]: node for node in whole["nodes"]}
    assert [one["id"] for one in found] == wanted
    for one in found:
        assert one["feature"] == nodes[one["id"]]["feature"]
        assert one["y"] == pytest.approx(nodes[one["id"]]["y"], abs=1e-6)


def test_lineage_is_what_edges_lead_to(client, edges):
    name = "deep/1-resid_post/7"
    found = client.get("/api/lineage", params={"name": name, "at_least": 0.3}).json()
    strong = [pair for pair, r in edges.items() if r >= 0.3]
    reached = {67}
    for end in (0, 1):
        near = {67}
        while near := {pair[1 - end] for pair in strong if pair[end] in near}:
            reached |= near
    assert not found["truncated"]
    assert {node["feature_id"] for node in found["nodes"]} == reached
    near = client.get("/api/lineage", params={"name": name, "at_least": 0.3, "up": 0, "down": 1})
    below = {b for a, b in strong if a == 67}
    assert {node["feature_id"] for node in near.json()["nodes"]} == {67} | below
    assert len(near.json()["edges"]) == len(below)


def test_lineage_is_the_macros(client, path):
    name = "deep/1-resid_post/7"
    found = client.get("/api/lineage", params={"name": name, "at_least": 0.4}).json()
    with atlas.open(path) as opened:
        rows = opened.rows(
            "select feature from descendants($name, at_least := 0.4)"
            " union select feature from ancestors($name, at_least := 0.4)",
            {"name": name},
        )
    assert {node["feature"] for node in found["nodes"]} == {name} | {one for (one,) in rows}


def test_a_feature_without_edges_stands_alone(client):
    answer = client.get("/api/lineage", params={"name": "deep/0-resid_post/7", "at_least": 2})
    assert [node["feature"] for node in answer.json()["nodes"]] == ["deep/0-resid_post/7"]


def test_communities_and_their_members(client, whole):
    found = client.get("/api/communities", params={"clustering": 0}).json()
    assert [one["community"] for one in found["communities"]] == list(range(7))
    for one in found["communities"]:
        members = client.get(
            "/api/community", params={"clustering": 0, "id": one["community"]}
        ).json()["members"]
        assert len(members) == one["n_features"] == sum(layer["n"] for layer in one["layers"])
        live = {node["id"] for node in whole["nodes"] if node["community"] == one["community"]}
        assert live <= {member["feature_id"] for member in members}
    named = client.get("/api/communities", params={"clustering": 0, "q": "NITY 3"}).json()
    assert [one["community"] for one in named["communities"]] == [3]


@pytest.mark.parametrize(
    ("asked_of", "asked", "status", "said"),
    [
        ("/api/graph", {"model": "shallow"}, 404, "atlas link"),
        ("/api/graph", {"measure": "pearson; drop table features"}, 400, "measure is one of"),
        ("/api/graph", {"at_least": "nan"}, 400, "at_least is a number"),
        ("/api/graph", {"clustering": "7"}, 404, "no clustering '7'"),
        ("/api/graph", {"limit": "1e3"}, 400, "limit is a whole number"),
        ("/api/lineage", {"name": "deep/9-resid_post/1"}, 404, "deep/9"),
        ("/api/communities", {"clustering": "x"}, 400, "clustering is the number"),
        ("/api/community", {"clustering": "0", "id": "99"}, 404, "no community 99"),
    ],
)
def test_what_cannot_be_answered_is_told(client, asked_of, asked, status, said):
    response = client.get(asked_of, params={**WHERE, **asked})
    assert response.status_code == status
    (sentence,) = response.json().values()
    assert said in sentence
    assert sentence.endswith(".")


# -- the order ----------------------------------------------------------------------------------


def length(y, a, b, weight):
    return np.average(np.abs(y[a] - y[b]), weights=weight)


def test_the_order_makes_strong_edges_short(whole):
    y = {node["id"]: node["y"] for node in whole["nodes"]}
    drawn = np.array([(y[one["a"]], y[one["b"]], one["value"]) for one in whole["edges"]])
    shuffled = np.random.default_rng(0).permutation(drawn[:, 1])
    ours = np.average(np.abs(drawn[:, 0] - drawn[:, 1]), weights=drawn[:, 2] ** 2)
    chance = np.average(np.abs(drawn[:, 0] - shuffled), weights=drawn[:, 2] ** 2)
    assert ours < chance / 3


def test_the_order_finds_a_hidden_one():
    rng = np.random.default_rng(1)
    n, layers = 400, 6
    hidden = [rng.permutation(n) for _ in range(layers)]
    a = np.concatenate([np.argsort(hidden[i]) + i * n for i in range(layers - 1)])
    b = np.concatenate([np.argsort(hidden[i + 1]) + (i + 1) * n for i in range(layers - 1)])
    # Each feature's own successor, and weaker links to where its neighbours go.
    near = b.reshape(layers - 1, n)
    ends = np.concatenate([b, np.roll(near, 1, 1).ravel(), np.roll(near, -2, 1).ravel()])
    weight = np.repeat([1.0, 0.2, 0.1], len(a))
    y = layered_positions(np.arange(layers + 1) * n, np.tile(a, 3), ends, weight)
    assert length(y, np.tile(a, 3), ends, weight) < 0.01  # at random it would be a third


@st.composite
def graphs(draw):
    sizes = draw(st.lists(st.integers(0, 12), min_size=1, max_size=5))
    begin = np.concatenate([[0], np.cumsum(sizes)])
    pairs = [
        (a, b)
        for layer in range(len(sizes) - 1)
        for a in range(begin[layer], begin[layer + 1])
        for b in range(begin[layer + 1], begin[layer + 2])
    ]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    weight = draw(st.lists(st.floats(1e-6, 1), min_size=len(chosen), max_size=len(chosen)))
    a, b = np.array(chosen, int).reshape(-1, 2).T
    return begin, a, b, np.array(weight, float)


@settings(deadline=None)
@given(graphs())
def test_every_order_is_one(graph):
    begin, a, b, weight = graph
    y = layered_positions(begin, a, b, weight)
    assert np.array_equal(y, layered_positions(begin, a, b, weight))
    for low, high in itertools.pairwise(begin):
        n = high - low
        assert sorted(y[low:high]) == pytest.approx((np.arange(n) + 0.5) / max(n, 1))


def test_nothing_linked_nothing_drawn(toy: Path):
    with page(toy) as client:
        asked = {"model": "toy-b", "hook": "resid_post"}
        assert client.get("/api/graph", params=asked).status_code == 404
