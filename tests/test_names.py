"""Names of SAEs and features: what an ingest may give is found again, the rest is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.errors import BadInput
from atlas.names import (
    HOOKS,
    SaeName,
    check_model_name,
    check_variant,
)
from atlas.store import Atlas

models = st.from_regex(r"[\w.'-]([\w.'@/ -]*[\w.-])?", fullmatch=True).filter(
    lambda name: "//" not in name and name != "other"
)
saes = st.builds(
    SaeName,
    models,
    st.integers(0, 999),
    st.sampled_from(HOOKS),
    st.none() | st.from_regex(r"[A-Za-z0-9_.+=-]+", fullmatch=True),
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atlas]:
    with Atlas.create(tmp_path_factory.mktemp("names") / "a.atlas") as atlas:
        yield atlas


@given(name=saes, index=st.integers(0, 999))
def test_any_name_that_an_ingest_may_give_is_found_in_sql(
    empty: Atlas, name: SaeName, index: int
) -> None:
    check_model_name(name.model)
    check_variant(name.variant)
    empty.execute("delete from models")
    empty.execute("insert into models (model_id, name) values (0, 'a model')")
    empty.execute("delete from saes")
    for sae_id, sae in enumerate((str(name), "other/0-resid_post")):
        empty.execute(
            "insert into saes (sae_id, model_id, name, first_feature_id, d_sae)"
            " values (?, 0, ?, ?, 1000)",
            [sae_id, sae, 1000 * sae_id],
        )
    assert empty.feature_id(f"{name}/{index}") == index
    assert empty.feature_name(index) == f"{name}/{index}"


@pytest.mark.parametrize(
    "bad", ["", " a", "a ", "/a", "a/", "a//b", "a\nb", "a,b", "a*", "a?", "a[1]", "@a"]
)
def test_bad_model_names(bad: str) -> None:
    with pytest.raises(BadInput, match="--name"):
        check_model_name(bad)


def test_variants() -> None:
    assert check_variant(None) is None
    assert check_variant("k32.seed=1") == "k32.seed=1"
    with pytest.raises(BadInput, match="variant"):
        check_variant("a/b")
