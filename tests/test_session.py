"""The Python face: what the package exports, and features and neighbours as objects."""

from __future__ import annotations

from pathlib import Path

import pytest

import atlas
from atlas.errors import NotFound, QueryError


def test_exported_names() -> None:
    assert atlas.__all__ == [
        "Atlas",
        "AtlasError",
        "Comparison",
        "FeatureCard",
        "Hit",
        "__version__",
        "create",
        "open",
    ]
    assert all(hasattr(atlas, name) for name in atlas.__all__)


def test_a_feature_and_its_neighbours(toy: Path) -> None:
    with atlas.open(toy) as a:
        name = a.rows("select feature from feature_cards where alive order by feature_id")[0][0]
        card = a.feature(name, contexts=2)
        assert (card.name, len(card.contexts)) == (name, 2)
        hits = a.similar(card, k=3)
        assert hits == a.similar(name, k=3) == a.similar(card.feature_id, k=3)
        assert [hit.rank for hit in hits] == [1, 2, 3]
        assert [(h.rank, h.feature, h.score, h.feature_id) for h in hits] == a.rows(
            "from similar(?, k := 3) order by rank", [name]
        )
        model = hits[0].feature.split("/")[0]
        assert all(h.feature.startswith(model) for h in a.similar(card, within=model))
        with pytest.raises(NotFound):
            a.feature("no-such/0-resid_post/1")
        with pytest.raises(NotFound):
            a.similar("no-such/0-resid_post/1")


def test_rows_come_as_polars(toy: Path) -> None:
    with atlas.open(toy) as a:
        frame = a.sql("select feature, density from feature_cards").pl()
    assert frame.columns == ["feature", "density"]
    assert frame.height > 0


def test_a_new_atlas_is_empty_and_answers(tmp_path: Path) -> None:
    with atlas.create(tmp_path / "new.atlas") as a:
        assert a.rows("from feature_cards") == []
        assert a.rows("from find('dog')") == []
        assert a.rows("select saes, features from overview") == [(0, 0)]


def test_a_comparison_as_rows_a_frame_and_pictures(toy: Path, tmp_path: Path) -> None:
    chosen = {"min_joint": 3, "permutations": 9, "subsets": 0}
    with atlas.open(toy) as a:
        found = a.compare("toy-a", "toy-c", "svcca", "rsa", **chosen)
        (value,) = a.row(
            "select value from rsa('toy-a/1-resid_post', 'toy-c/2-resid_post', min_joint := 3,"
            " permutations := 9, subsets := 0)"
        ) or ("none",)
        with pytest.raises(QueryError, match="no 'toy-x'"):
            a.compare("toy-a", "toy-x")
    assert [(row["metric"], row["sae_a"], row["sae_b"]) for row in found.rows] == [
        (metric, f"toy-a/{layer}-resid_post", "toy-c/2-resid_post")
        for metric in ("svcca", "rsa")
        for layer in (0, 1)
    ]
    assert found.rows[-1]["value"] == value
    assert found.pl().height == 4
    names = [path.name for path in found.heatmap(tmp_path / "layers.svg")]
    assert names == ["layers-svcca.svg", "layers-rsa.svg"]
