"""Names and ids in SQL: what resolves, and the one sentence for what does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import atlas
from atlas import Atlas
from atlas.errors import NotFound, QueryError
from tests.synthetic import SAES


@pytest.fixture(scope="module")
def store(toy: Path) -> Iterator[Atlas]:
    with atlas.open(toy) as opened:
        yield opened


def test_every_feature_s_name_and_id_lead_to_each_other(store: Atlas) -> None:
    wrong = store.rows(
        """
        select feature_id, feature from feature_names
        where feature_id(feature) != feature_id or feature_id(feature_id) != feature_id
        or feature_name(feature_id) != feature or feature_name(feature) != feature
        or feature_id(feature_id::varchar) != feature_id
        """
    )
    assert wrong == []


def test_saes_resolve_by_name_and_id(store: Atlas) -> None:
    for number, name in enumerate(SAES):
        assert store.row(f"select sae_id('{name}'), sae_id({number}), sae_name({number})") == (
            number, number, name,
        )  # fmt: skip


def test_saes_in_covers_an_sae_a_model_or_everything(store: Atlas) -> None:
    assert store.row("select saes_in('toy-a'), saes_in('toy-a/1-resid_post'), saes_in(null)") == (
        [0, 1],
        [1],
        [0, 1, 2, 3],
    )


def test_saes_in_covers_the_names_that_fit_a_pattern(store: Atlas) -> None:
    assert store.row("select saes_in('toy-?/0-*'), saes_in('*/2-resid_post')") == ([0, 2], [3])
    with pytest.raises(QueryError, match="no 'toy-x/"):
        store.row("select saes_in('toy-x/*')")


def test_null_gives_null(store: Atlas) -> None:
    assert store.row("select feature_id(null), feature_name(null), sae_id(null)") == (None,) * 3


def test_names_resolve_in_calls_within_calls_and_in_joins(store: Atlas) -> None:
    assert store.row("select feature_name(feature_id(feature_name(30)))") == (
        "toy-a/1-resid_post/6",
    )
    assert store.row("select feature_name(feature_id((select max(feature_id) from features)))") == (
        "toy-c/2-resid_post/23",
    )


@pytest.mark.parametrize(
    "asked, sentence",
    [
        ("'toy-a/1-resid_post/24'", "There is no feature 'toy-a/1-resid_post/24': this SAE's "
         "features are numbered 0 to 23."),
        ("'toy-a/1-resid_post/007'", "numbered 0 to 23."),
        ("'toy-a/1-resid_post/99999999999999999999999'", "numbered 0 to 23."),
        ("96", "There is no feature with id 96: ids go from 0 to 95."),
        ("-1", "There is no feature with id -1: ids go from 0 to 95."),
        ("'toy-d/1-resid_post/3'", "There is no 'toy-d/1-resid_post' in this atlas; its SAEs are "
         "toy-a/1-resid_post, "),
        ("'dog'", "'dog' is not a feature's name; write MODEL/LAYER-HOOK/INDEX, such as "
         "'toy-a/0-resid_post/0', or an id."),
        ("''", "'' is not a feature's name;"),
        ("1.5", "'1.5' is not a feature's name;"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "query", ["select feature_id({})", "from contexts({})", "from similar({})"]
)
def test_an_unknown_feature_is_told_in_one_sentence(
    store: Atlas, query: str, asked: str, sentence: str
) -> None:
    with pytest.raises(QueryError) as error:
        store.rows(query.format(asked))
    assert sentence in str(error.value)
    assert str(error.value).count("\n") == 0


def test_an_unknown_sae_is_told_with_the_nearest_names_first(store: Atlas) -> None:
    with pytest.raises(QueryError, match=r"its SAEs are toy-c/2-resid_post, "):
        store.rows("select sae_id('toy-c/22-resid_post')")


def test_python_raises_not_found(store: Atlas) -> None:
    assert store.feature_id("toy-a/1-resid_post/6") == 30
    with pytest.raises(NotFound, match="numbered 0 to 23"):
        store.feature_id("toy-a/1-resid_post/24")


def test_one_unknown_name_among_many_is_found_out_only_when_asked(store: Atlas) -> None:
    """The error is raised by the rows that need it, not while the query is planned."""
    assert store.rows(
        "select if(true, 1, feature_id('nobody')) union all select 2 where false"
        " and feature_id('nobody') = 1"
    ) == [(1,)]


def test_an_atlas_without_saes_says_so(tmp_path: Path) -> None:
    with atlas.create(tmp_path / "empty.atlas") as empty:
        with pytest.raises(QueryError, match="holds no SAE yet; add a model with `atlas ingest`"):
            empty.rows("select feature_id('a/0-resid_post/1')")
        with pytest.raises(QueryError, match="holds no SAE yet"):
            empty.rows("from similar('a/0-resid_post/1')")
        assert empty.row("select saes_in(null)") == ([],)
