"""Names of SAEs and features: what parses, round trips, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.errors import BadInput
from atlas.names import (
    HOOKS,
    FeatureName,
    SaeName,
    check_model_name,
    check_variant,
    parse_feature,
    parse_sae,
)

models = st.from_regex(r"[\w.@-]([\w.@/ -]*[\w.@-])?", fullmatch=True).filter(
    lambda name: "//" not in name
)
saes = st.builds(
    SaeName,
    models,
    st.integers(0, 999),
    st.sampled_from(HOOKS),
    st.none() | st.from_regex(r"[A-Za-z0-9_.+=-]+", fullmatch=True),
)


@given(saes, st.integers(0, 10**7))
def test_names_round_trip(sae: SaeName, index: int) -> None:
    assert parse_sae(str(sae)) == sae
    assert parse_feature(f"{sae}/{index}") == FeatureName(sae, index)
    assert str(FeatureName(sae, index)) == f"{sae}/{index}"


def test_a_model_name_may_look_like_a_site() -> None:
    name = parse_feature("org/3-resid_post/4-mlp_out-8x/12")
    assert name == FeatureName(SaeName("org/3-resid_post", 4, "mlp_out", "8x"), 12)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "a",
        "3-resid_post",
        "/3-resid_post",
        "a/resid_post",
        "a/3-resid",
        "a/03-resid_post",
        "a/-3-resid_post",
        "a/3-resid_post-",
        "a/3-resid_post- x",
        "a /3-resid_post",
        "a/3-resid_post/1",
    ],
)
def test_what_names_no_sae_is_refused(bad: str) -> None:
    with pytest.raises(BadInput, match="is not an SAE's name"):
        parse_sae(bad)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "12",
        "a/3-resid_post",
        "a/3-resid_post/x",
        "a/3-resid_post/٣",
        "a/3-resid_post/-1",
        "a/3-resid_post/01",
        "a/3-resid_post/1/",
    ],
)
def test_what_names_no_feature_is_refused(bad: str) -> None:
    with pytest.raises(BadInput):
        parse_feature(bad)


@given(st.text())
def test_anything_parses_or_is_told(text: str) -> None:
    try:
        assert str(parse_feature(text)) == text
    except BadInput as error:
        assert "\n" not in str(error).replace(repr(text), "")


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
