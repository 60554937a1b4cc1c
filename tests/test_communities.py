"""Communities of features over layers: planted ones found, values that others compute, and kept."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

import atlas
from atlas.checks import run_checks
from atlas.errors import BadInput, NotFound
from atlas.lineage.agreement import adjusted_mutual_information
from atlas.lineage.communities import ClusterOptions, cluster, cluster_linked
from atlas.lineage.community_labels import label_communities
from atlas.lineage.linking import LinkOptions, link
from atlas.lineage.partition import METHODS, Graph, partition, quality
from tests.commandline import invoke, succeed, told
from tests.planted_layers import PlantedLayers

USUAL = {"leiden_modularity": 1.0, "leiden_cpm": 0.1, "louvain": 1.0, "components": 0.0}


def layered(
    n_layers: int, n_groups: int, width: int, inside: float, outside: float, seed: int
) -> tuple[Graph, np.ndarray]:
    """A layered graph with planted groups of `width` nodes a layer, and each node's group.

    inside, outside: chance of an edge to a node of the next layer in the same group, in another.
    """
    rng = np.random.default_rng(seed)
    group = np.tile(np.repeat(np.arange(n_groups), width), n_layers)
    layer = np.repeat(np.arange(n_layers), n_groups * width)
    same = group[:, None] == group
    there = rng.random(same.shape) < np.where(same, inside, outside)
    source, target = np.nonzero(there & (layer[:, None] + 1 == layer))
    weight = np.where(group[source] == group[target], 0.6, 0.2) + 0.2 * rng.random(len(source))
    nodes, at = np.unique(np.concatenate([source, target]), return_inverse=True)
    source, target = np.split(at, 2)
    return Graph(len(nodes), source, target, weight), group[nodes]


def as_networkx(graph: Graph, kind: type[nx.Graph]) -> nx.Graph:
    made = kind()
    made.add_nodes_from(range(graph.n))
    edges = zip(graph.source.tolist(), graph.target.tolist(), graph.weight.tolist(), strict=True)
    made.add_weighted_edges_from(edges)
    return made


def members(labels: np.ndarray) -> list[set[int]]:
    return [set(np.flatnonzero(labels == i).tolist()) for i in range(labels.max() + 1)]


# -- partitions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, n_layers", [("leiden_modularity", 5), ("louvain", 5), ("leiden_cpm", 3)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_groups_are_found(method: str, n_layers: int, seed: int) -> None:
    # Over many layers most nodes of a group are no neighbours, and the Potts model parts them.
    graph, truth = layered(n_layers, 12, 8, inside=0.9, outside=0.01, seed=seed)
    found = partition(graph, method, USUAL[method], seed)
    assert adjusted_rand_score(truth, found) >= 0.95


@pytest.mark.parametrize("method", METHODS)
@given(
    n_groups=st.integers(1, 5),
    outside=st.sampled_from([0.0, 0.03, 0.3]),
    resolution=st.sampled_from([0.05, 0.5, 1.0, 1.7]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_any_graph_is_divided_in_the_same_way_again(
    method: str, n_groups: int, outside: float, resolution: float, seed: int
) -> None:
    graph, _ = layered(3, n_groups, 4, 0.7, outside, seed)
    labels = partition(graph, method, resolution, seed)
    np.testing.assert_array_equal(labels, partition(graph, method, resolution, seed))
    sizes = np.bincount(labels)
    assert labels.shape == (graph.n,)
    assert (sizes > 0).all()
    assert (np.diff(sizes) <= 0).all()
    first = [int(np.flatnonzero(labels == i)[0]) for i in range(len(sizes))]
    for (a, size_a), (b, size_b) in itertools.pairwise(zip(first, sizes, strict=True)):
        assert size_a > size_b or a < b
    # It is no worse than no communities at all, or than one.
    worth = quality(graph, labels, method, resolution)
    for trivial in (np.arange(graph.n), np.zeros(graph.n, int)):
        other = quality(graph, trivial, method, resolution)
        assert (worth is None) == (method == "components") == (other is None)
        assert worth is None or other is None or worth >= other - 1e-12


@given(seed=st.integers(0, 1000), outside=st.sampled_from([0.0, 0.01, 0.1]))
@settings(max_examples=25, deadline=None)
def test_components_are_those_of_networkx(seed: int, outside: float) -> None:
    graph, _ = layered(4, 6, 3, 0.3, outside, seed)
    found = members(partition(graph, "components", 0.0, 0))
    expected = list(nx.weakly_connected_components(as_networkx(graph, nx.DiGraph)))
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected))


@given(seed=st.integers(0, 1000), resolution=st.sampled_from([0.3, 1.0, 2.0]))
@settings(max_examples=25, deadline=None)
def test_modularity_is_that_of_networkx(seed: int, resolution: float) -> None:
    graph, _ = layered(3, 4, 4, 0.5, 0.1, seed)
    _, labels = np.unique(np.random.default_rng(seed).integers(0, 5, graph.n), return_inverse=True)
    for method, kind in (("leiden_modularity", nx.Graph), ("louvain", nx.DiGraph)):
        expected = nx.community.modularity(
            as_networkx(graph, kind), members(labels), resolution=resolution
        )
        assert quality(graph, labels, method, resolution) == pytest.approx(expected, abs=1e-12)


def potts(graph: Graph, labels: np.ndarray, resolution: float) -> float:
    """The constant Potts model by its definition: over pairs of nodes of one community, Σ w − γ."""
    weight = np.zeros((graph.n, graph.n))
    weight[graph.source, graph.target] = graph.weight
    pairs = itertools.combinations(range(graph.n), 2)
    gains = [weight[i, j] + weight[j, i] - resolution for i, j in pairs if labels[i] == labels[j]]
    return sum(gains) / graph.weight.sum()


def test_the_potts_model_is_as_defined_and_at_its_best() -> None:
    graph, _ = layered(3, 3, 3, 0.7, 0.1, 4)
    rng = np.random.default_rng(0)
    for resolution in (0.05, 0.2, 0.5):
        labels = partition(graph, "leiden_cpm", resolution, 0)
        best = quality(graph, labels, "leiden_cpm", resolution)
        assert best == pytest.approx(potts(graph, labels, resolution), abs=1e-12)
        # No node is better off in another community or alone, however often it is tried.
        for _ in range(200):
            moved = labels.copy()
            moved[rng.integers(graph.n)] = rng.integers(labels.max() + 2)
            assert potts(graph, moved, resolution) <= best + 1e-9


@given(
    n=st.integers(1, 200),
    kinds=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_agreement_is_that_of_scikit_learn(n: int, kinds: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(0, k, n) for k in kinds)
    assert adjusted_mutual_information(a, b) == pytest.approx(
        adjusted_mutual_info_score(a, b), abs=1e-6
    )
    assert adjusted_mutual_information(a, a) == pytest.approx(1)


def test_agreement_is_summed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.geometric(0.05, 3000), rng.geometric(0.1, 3000)
    whole = adjusted_mutual_information(a, b)
    monkeypatch.setattr("atlas.lineage.agreement._AT_ONCE", 20)
    assert adjusted_mutual_information(a, b) == pytest.approx(whole, rel=1e-12)


# -- in an atlas --------------------------------------------------------------------------------


@pytest.fixture
def deep(layers: PlantedLayers, tmp_path: Path) -> Path:
    return shutil.copyfile(layers.path, tmp_path / "deep.atlas")


def rows(path: Path, query: str, parameters: list[object] | None = None) -> list[tuple]:
    with atlas.open(path) as store:
        return store.rows(query, parameters)


def test_communities_of_all_layers_are_kept(deep: Path, layers: PlantedLayers) -> None:
    options = ClusterOptions(methods=METHODS, at_least=0.5, reruns=2)
    outcome = cluster(deep, "deep", options)
    assert outcome.n_added == 4
    kept = rows(
        deep, "select method from clustering_cards"
        " where list_contains(?, clustering_id) order by clustering_id",
        [list(outcome.clustering_ids)],
    )  # fmt: skip
    assert [method for (method,) in kept] == list(METHODS)
    edges = rows(
        deep,
        "select feature_id_a, feature_id_b, pearson from edges where pearson >= 0.5"
        " and sae_a like 'deep/%' and layer_b = layer_a + 1",
    )
    connected = nx.Graph([(a, b) for a, b, _ in edges])
    for method, clustering in zip(METHODS, outcome.clustering_ids, strict=True):
        found: dict[int, set[int]] = {}
        for community, feature in rows(
            deep, "select community, feature_id from communities where clustering_id = ?",
            [clustering],
        ):  # fmt: skip
            found.setdefault(community, set()).add(feature)
        assert set().union(*found.values()) == set(connected)
        if method == "components":
            expected = sorted(map(sorted, nx.connected_components(connected)))
            assert sorted(map(sorted, found.values())) == expected
        # What passes on alone is in one community with what it becomes.
        of = {feature: community for community, some in found.items() for feature in some}
        alone = [
            (a, b)
            for a, b in layers.truth.passes
            if a in connected and set(connected[a]) == {b} and set(connected[b]) == {a}
        ]
        assert alone
        assert all(of[a] == of[b] for a, b in alone)
    quality_and_stability = rows(
        deep, "select method, quality, stability, resolution, seed from clusterings"
        " where list_contains(?, clustering_id) order by clustering_id",
        [list(outcome.clustering_ids)],
    )  # fmt: skip
    for method, worth, stability, resolution, seed in quality_and_stability:
        if method == "components":
            assert (worth, stability, resolution, seed) == (None, None, None, None)
        else:
            assert resolution == USUAL[method]
            assert 0 < worth <= 1
            assert 0.5 < stability <= 1 + 1e-9


def test_the_atlas_is_sound_afterwards(toy: Path, tmp_path: Path) -> None:
    path = shutil.copyfile(toy, tmp_path / "toy.atlas")
    cluster(path, None, ClusterOptions(methods=METHODS))
    with atlas.open(path) as store:
        assert [check.name for check in run_checks(store) if not check.passed] == []


def test_features_of_a_concept_are_together(toy: Path, tmp_path: Path) -> None:
    path = shutil.copyfile(toy, tmp_path / "toy.atlas")
    outcome = cluster(path, "toy-a", ClusterOptions(methods=("components",), at_least=0.5))
    query = (
        "select list(feature_id order by feature_id) from communities"
        " where clustering_id = ? group by community"
    )
    found = [set(ids) for (ids,) in rows(path, query, list(outcome.clustering_ids))]
    planted = [set(ids) for (ids,) in rows(toy, query, [0])]
    # Some concepts share words, and those of rare words meet too seldom to be linked.
    assert len(found) > 10
    assert all(
        any(one >= concept for one in found)
        for concept in planted
        if concept <= set().union(*found)
    )
    assert sum(one in planted for one in found) > 10


def test_what_is_kept_is_not_computed_again(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ClusterOptions(methods=("leiden_cpm", "components"), at_least=0.3, reruns=1)
    first = cluster(deep, "deep", options)
    before = rows(deep, "from communities order by all")
    monkeypatch.setattr("atlas.lineage.communities._make", None)
    assert cluster(deep, "deep/1-resid_post", options).clustering_ids == first.clustering_ids
    monkeypatch.undo()
    # With other reruns, a clustering of the same parameters takes its place: same communities.
    again = cluster(deep, "deep", ClusterOptions(("leiden_cpm",), at_least=0.3, reruns=2))
    assert again.n_added == 1
    assert again.clustering_ids == first.clustering_ids[:1]  # noted by the reader
    assert len(rows(deep, "from clusterings where model_id = 0")) == 2
    columns = "select community, feature_id from communities where clustering_id = ? order by all"
    old = [(c, f) for i, c, f in before if i == first.clustering_ids[0]]
    assert rows(deep, columns, list(again.clustering_ids)) == old
    # And where links come to hold other pairs, all is computed anew.
    with atlas.open(deep, write=True) as store:
        store.execute("update links set min_joint = 5")
    assert cluster(deep, "deep", options).n_added == 2
    assert len(rows(deep, "from clusterings where model_id = 0")) == 2


def test_methods_are_apart_where_one_is_interrupted(
    deep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(graph: Graph, method: str, *rest: object) -> np.ndarray:
        if method == "louvain":
            raise KeyboardInterrupt
        return partition(graph, method, *rest)

    monkeypatch.setattr("atlas.lineage.communities.partition", broken)
    with pytest.raises(KeyboardInterrupt):
        cluster(deep, "deep", ClusterOptions(("components", "louvain")))
    monkeypatch.undo()
    assert rows(deep, "select method from clustering_cards") == [("components",)]
    assert cluster(deep, "deep", ClusterOptions(("components", "louvain"))).n_added == 1


def test_a_community_is_labelled_by_what_its_members_share(toy: Path) -> None:
    with atlas.open(toy) as store:
        con = store.cursor()
        ids = np.array([i for (i,) in store.rows("select feature_id from features where alive")])
        ids = ids[ids < 24]
        found = label_communities(con, ids[:6], np.array([0, 0, 0, 1, 1, 2], np.int32))
        assert [(community, n) for community, _, n in found] == [(0, 3), (1, 2), (2, 1)]
        labels = dict(store.rows("select feature_id, label from best_labels where feature_id < 24"))
        assert found[2][1] == labels[int(ids[5])]  # one member: its own label
        shares = store.rows(
            """
            select feature_id, form, word_stats.sum_q / word_sum_q as share
            from word_stats join features using (feature_id)
            where list_contains(?, feature_id)
            """,
            [ids[:6].tolist()],
        )
    community = dict(zip(ids[:6].tolist(), [0, 0, 0, 1, 1, 2], strict=True))
    total: dict[str, float] = {}
    mine: dict[str, float] = {}
    for feature, form, share in shares:
        total[form] = total.get(form, 0) + share
        if community[feature] == 0:
            mine[form] = mine.get(form, 0) + share
    average = sum(total.values()) / 3
    weight = {form: s / 3 * np.log(1 + average / total[form]) for form, s in mine.items()}
    best = sorted(weight, key=lambda form: (-weight[form], form))[:4]
    expected = [form for form in best if weight[form] >= 0.25 * weight[best[0]]]
    assert found[0][1] == " · ".join(expected)


def test_refusals_are_told(deep: Path, toy: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no method 'kmeans'"):
        cluster(deep, None, ClusterOptions(methods=("kmeans",)))  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no measure 'cosine'"):
        cluster(deep, None, ClusterOptions(measure="cosine"))
    with pytest.raises(BadInput, match="above 0"):
        cluster(deep, None, ClusterOptions(resolution=0))
    with pytest.raises(NotFound, match="no 'deeper'"):
        cluster(deep, "deeper")
    with pytest.raises(BadInput, match=r"pearson of 2;"):
        cluster(deep, "deep", ClusterOptions(at_least=2))
    with pytest.raises(BadInput, match="'toy-b' have SAEs of one model"):
        cluster(shutil.copyfile(toy, tmp_path / "toy.atlas"), "toy-b")
    with atlas.open(deep, write=True) as store:
        store.execute("delete from links where link_id = 1")
    with pytest.raises(BadInput, match=r"1-resid_post and deep/2-resid_post are not linked .*link"):
        cluster(deep, "deep")


def test_wherever_layers_are_linked_communities_are_found(deep: Path) -> None:
    found = cluster_linked(deep, ["twin", "deep", "twin/0-resid_post"])
    assert found.n_added == len(found.clustering_ids) == 2
    again = cluster(deep)
    assert (sorted(again.clustering_ids), again.n_added) == (sorted(found.clustering_ids), 0)
    assert cluster_linked(deep, [None]) == again
    with atlas.open(deep, write=True) as store, store.transaction():
        store.execute("update coactivations set pearson = 0")
        store.execute("delete from clusterings")
    assert cluster_linked(deep, [None]).clustering_ids == ()  # no edge is strong enough
    with atlas.open(deep, write=True) as store:
        store.execute("delete from links where link_id = 1")
    assert cluster_linked(deep, [None]).clustering_ids == ()


def test_a_variant_that_is_not_linked_is_left_out(deep: Path) -> None:
    with atlas.open(deep, write=True) as store, store.transaction():
        store.execute(
            "insert into saes by name select * replace (sae_id + 100 as sae_id, 'seed1' as variant,"
            " name || '-seed1' as name) from saes where name like 'deep/%'"
        )
    assert len(cluster(deep, "deep").clustering_ids) == 1
    with pytest.raises(BadInput, match=r"not linked yet; run `atlas link .* deep` first"):
        cluster(deep, "deep/*-seed1")


def test_linking_finds_communities(deep: Path) -> None:
    linked = invoke("link", deep, "deep")
    assert "Communities were found, too" in linked.stderr
    (card,) = json.loads(succeed("communities", deep, "deep", "-f", "json"))
    assert (card["method"], card["seed"]) == ("leiden_modularity", 0)
    assert "nothing was computed" in invoke("link", deep, "deep").stderr


@pytest.fixture
def linked(toy: Path, tmp_path: Path) -> Path:
    """A copy of the toy atlas with clusterings of its chain toy-a, and one of another model."""
    path = shutil.copyfile(toy, tmp_path / "linked.atlas")
    with atlas.open(path, write=True) as store, store.transaction():
        for table in ("clusterings", "communities", "community_labels"):
            store.execute(f"delete from {table}")
        store.execute("update links set min_joint = 10")
    cluster(path, "toy-a", ClusterOptions(("louvain", "components"), reruns=0))
    with atlas.open(path, write=True) as store:
        store.execute(
            "insert into clusterings by name select * replace (7 as clustering_id, model_id + 1 as"
            " model_id) from clusterings where clustering_id = 0"
        )
    return path


def test_clusterings_go_with_the_links_that_they_were_found_with(linked: Path) -> None:
    ids = "select clustering_id from clusterings order by clustering_id"
    assert rows(linked, ids) == [(0,), (1,), (7,)]
    # Neither a link that is there nor one that is not of neighbouring layers matters.
    assert link(linked, "toy-a", None, LinkOptions(10)).n_forgotten == 0
    assert link(linked, "toy-a/0-*", "toy-c", LinkOptions(2)).n_forgotten == 0
    assert rows(linked, ids) == [(0,), (1,), (7,)]
    assert link(linked, "toy-a", None, LinkOptions(2)).n_forgotten == 2
    assert rows(linked, ids) == [(7,)]
    for table in ("communities", "community_labels"):
        assert rows(linked, f"select count(*) from {table}") == [(0,)]


def test_clusterings_stay_where_a_link_is_not_kept(
    linked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("atlas.lineage.linking._add_strong", fail)
    with pytest.raises(KeyboardInterrupt):
        link(linked, "toy-a", None, LinkOptions(2))
    assert len(rows(linked, "from clusterings")) == 3
    assert rows(linked, "select distinct min_joint from links") == [(10,)]


def test_linking_anew_tells_what_becomes_of_clusterings(linked: Path) -> None:
    done = invoke("link", linked, "toy-a", "--min-joint", 2)
    assert "2 clusterings of the layers that are linked anew were deleted" in done.stderr
    (card,) = json.loads(succeed("communities", linked, "toy-a", "-f", "json"))
    assert card["method"] == "leiden_modularity"
    # No id comes to mean another clustering, and what is found again has its own.
    assert card["clustering_id"] == 8
    again = cluster(linked, "toy-a", ClusterOptions(("components", "louvain"), reruns=0))
    assert (again.clustering_ids, again.n_added) == ((1, 0), 2)
    with atlas.open(linked, write=True) as store, store.transaction():
        store.execute("delete from clusterings")
    later = cluster(linked, "toy-a", ClusterOptions(("leiden_cpm",), at_least=0.2, reruns=0))
    assert later.clustering_ids == (9,)


def test_what_matters_comes_first(deep: Path) -> None:
    succeed("communities", deep, "deep", "--method", "louvain", "--reruns", "1")
    (card,) = json.loads(succeed("communities", deep, "-f", "json"))
    assert list(card)[:8] == [
        "clustering_id", "saes", "method", "n_communities", "n_features", "largest", "stability",
        "quality",
    ]  # fmt: skip
    assert card["saes"] == "deep/*-resid_post"
    assert json.loads(succeed("communities", deep, card["saes"], "-f", "json")) == [card]
    with atlas.open(deep) as store:
        viewed = store.sql("from clustering_cards").columns
        assert set(viewed) == set(card) - {"saes"}
        assert store.sql("from link_cards").columns[:3] == ["sae_a", "sae_b", "n_pairs"]


def test_the_command_line_finds_and_lists(deep: Path) -> None:
    arguments = ["communities", deep, "deep", "--at-least", "0.3", "--reruns", "1"]
    found = succeed(*arguments, "--method", "leiden_cpm", "--method", "components", "-f", "json")
    cards = json.loads(found)
    assert [card["method"] for card in cards] == ["leiden_cpm", "components"]
    assert cards[0]["clustering_id"] != cards[1]["clustering_id"]
    again = invoke(*arguments, "--method", "components", "-f", "csv")
    assert "nothing was computed" in again.stderr
    assert json.loads(succeed("communities", deep, "-f", "json")) == cards
    assert json.loads(succeed("communities", deep, "twin", "-f", "json")) == []
    listed = succeed("communities", deep, "--of", cards[1]["clustering_id"], "-n", 3, "-f", "csv")
    communities = list(csv.DictReader(io.StringIO(listed)))
    assert [one["community"] for one in communities] == ["0", "1", "2"]
    assert int(communities[0]["n_features"]) == cards[1]["largest"]
    assert "has no clustering 77" in told(invoke("communities", deep, "--of", 77))
    assert invoke("communities", deep, "deep", "--of", 0).exit_code == 2


def test_options_of_the_command_are_those_of_the_library() -> None:
    from atlas.cli import communities as command
    from atlas.lineage import communities, partition

    assert command.METHODS == partition.METHODS
    assert command.MEASURES == communities.MEASURES


def test_communities_are_asked_for_in_sql(toy: Path) -> None:
    found = rows(
        toy, "select method, community, label, n_features, n_layers"
        " from communities_of('toy-a/1-resid_post/2')"
    )  # fmt: skip
    assert [row[0] for row in found] == ["leiden_modularity", "components"]
    (community,) = {row[1] for row in found}
    assert {row[2:] for row in found} == {(f"concept {community}", 2, 2)}
    members_found = rows(toy, f"select feature, layer from community_members(0, {community})")
    assert [layer for _, layer in members_found] == [0, 1]
    assert members_found[1][0] == "toy-a/1-resid_post/2"
