"""Directions of transcoders, crosscoders and heads compare where they live in one space only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import atlas
from atlas import Atlas, scripts
from atlas.cards import Written, card
from atlas.checks import run_checks
from atlas.errors import QueryError
from tests.commandline import succeed
from tests.synthetic import SITES, Site, build_synthetic

D = 16
LAYERS = ((0, "resid_post", D), (1, "resid_post", D))
SAES = (
    Site("toy-a", 0, "pieces", D),
    Site("toy-a", 2, "pieces", D, "mlp_out"),
    # Reads the stream through the norm, writes what is added to it.
    Site(
        "toy-a", 2, "pieces", D, "mlp_out", "transcoder", ((2, "mlp_norm", D),),
        ((2, "mlp_out", D),),
    ),
    Site("toy-a", 1, "pieces", D, "resid_post", "crosscoder", LAYERS, LAYERS),
    Site("toy-a", 1, "pieces", D, "resid_post", "crosscoder-b", LAYERS, LAYERS),
    # As wide as the model, and yet another space.
    Site("toy-a", 1, "pieces", D, "attn_z"),
    Site("toy-a", 3, "pieces", D, "mlp_out", "mlp_in", ((3, "mlp_in", D),), ((3, "mlp_out", D),)),
    # From one layer to two; as wide in all as the crosscoders.
    Site(
        "toy-a", 2, "pieces", D, "mlp_out", "clt", ((1, "mlp_norm", D),),
        ((1, "mlp_out", D), (2, "mlp_out", D)),
    ),
    Site("toy-b", 0, "pieces", D),
)  # fmt: skip
WIDTH = 24
TOGETHER = "toy-a/0-resid_post + toy-a/1-resid_post"
SPACES = {
    # SAE → space of its encoders, and of its decoders
    "toy-a/0-resid_post": ("toy-a/residual", "toy-a/residual"),
    "toy-a/2-mlp_out": ("toy-a/residual", "toy-a/residual"),
    "toy-a/2-mlp_out-transcoder": ("toy-a/residual", "toy-a/residual"),
    "toy-a/1-resid_post-crosscoder": (TOGETHER, TOGETHER),
    "toy-a/1-resid_post-crosscoder-b": (TOGETHER, TOGETHER),
    "toy-a/1-attn_z": ("toy-a/1-attn_z", "toy-a/1-attn_z"),
    "toy-a/3-mlp_out-mlp_in": ("toy-a/3-mlp_in", "toy-a/residual"),
    "toy-a/2-mlp_out-clt": ("toy-a/residual", "toy-a/1-mlp_out + toy-a/2-mlp_out"),
    "toy-b/0-resid_post": ("toy-b/residual", "toy-b/residual"),
}
MEASURES = ("encoder", "decoder")
CROSSCODER = "toy-a/1-resid_post-crosscoder"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spaces")
    return build_synthetic(folder / "a.atlas", documents=10, sites=SAES)


@pytest.fixture(scope="module")
def store(path: Path) -> Iterator[Atlas]:
    with atlas.open(path) as opened:
        yield opened


def decoders(store: Atlas, sae: str) -> np.ndarray:
    """(width, d_out) of one SAE, float64."""
    rows = store.rows(
        "select decoder from vectors join feature_names using (feature_id) where sae = ?"
        " order by feature_id",
        [sae],
    )
    return np.array([row[0] for row in rows], float)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, m) of rows with rows."""
    a, b = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (a, b))
    return a @ b.T


# -- the spaces -----------------------------------------------------------------------------------


def test_the_atlas_is_sound(store: Atlas) -> None:
    assert [check for check in run_checks(store) if not check.passed] == []


def test_every_sae_has_a_space_per_measure(store: Atlas) -> None:
    found = {(sae, measure): (space, width) for sae, measure, space, width in store.rows(
        "select sae, measure, space, width from sae_spaces"
    )}  # fmt: skip
    assert found == {
        (sae, measure): (space, 2 * D if "+" in space else D)
        for sae, spaces in SPACES.items()
        for measure, space in zip(MEASURES, spaces, strict=True)
    }


def test_a_crosscoder_of_two_models_is_of_neither(store: Atlas, path: Path, tmp_path: Path) -> None:
    both = Path(shutil.copy(path, tmp_path / "both.atlas"))
    with atlas.open(both, write=True) as opened:
        opened.execute(
            "update sae_sites set model_id = 1, layer = 0 where place = 1 and sae_id = 3"
        )
        assert opened.rows("select distinct space from sae_spaces where sae_id = 3") == [
            ("toy-a/0-resid_post + toy-b/0-resid_post",)
        ]
        assert opened.rows(f"select site from decoder_norms('{CROSSCODER}/2')") == [
            ("toy-a/0-resid_post",),
            ("toy-b/0-resid_post",),
        ]
        with pytest.raises(QueryError, match="name one of these, not '0-resid_post'"):
            opened.rows(f"from similar_at('{CROSSCODER}/2', '0-resid_post')")
        found = opened.rows(
            f"select feature from similar_at('{CROSSCODER}/2', 'toy-b/0-resid_post')"
        )
        assert {name.rpartition("/")[0] for (name,) in found} <= {CROSSCODER, "toy-b/0-resid_post"}
        assert ("toy-b/0-resid_post/2",) in opened.rows(
            f"select feature from similar_at('{CROSSCODER}/2', 'toy-b/0-resid_post', k := 1000)"
        )


# -- neighbours -----------------------------------------------------------------------------------


@pytest.mark.parametrize("by", MEASURES)
@pytest.mark.parametrize("sae", SPACES)
def test_neighbours_share_the_space_and_are_those_of_sql(store: Atlas, sae: str, by: str) -> None:
    at = MEASURES.index(by)
    beside = {other for other, spaces in SPACES.items() if spaces[at] == SPACES[sae][at]}
    found, expected = (
        store.rows(
            f"select rank, feature, score from {macro}('{sae}/4', k := 500, by := '{by}')"
            " order by rank"
        )
        for macro in ("similar", "similar_exact")
    )
    assert {name.rpartition("/")[0] for _, name, _ in found} == beside
    (alive,) = store.row(
        "select count(*) from features join saes using (sae_id) where alive and name in"
        " (select unnest(?))",
        [sorted(beside)],
    )
    assert len(found) == alive - 1
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    np.testing.assert_allclose([row[2] for row in found], [row[2] for row in expected], atol=1e-6)


@pytest.mark.parametrize("macro", ["similar", "similar_exact"])
@pytest.mark.parametrize(
    "sae, by, within, held",
    [
        ("toy-a/1-attn_z", "decoder", "toy-a/0-resid_post", "toy-a/1-attn_z"),
        ("toy-a/0-resid_post", "decoder", "toy-a/1-attn_z", "toy-a/residual"),
        (CROSSCODER, "encoder", "toy-a/0-resid_post", TOGETHER),
        ("toy-a/3-mlp_out-mlp_in", "encoder", "toy-a/2-mlp_out-transcoder", "toy-a/3-mlp_in"),
        (CROSSCODER, "decoder", "toy-b", TOGETHER),
    ],
)
def test_no_direction_of_the_space_within_is_told(
    store: Atlas, macro: str, sae: str, by: str, within: str, held: str
) -> None:
    with pytest.raises(QueryError) as error:
        store.rows(f"from {macro}('{sae}/4', by := '{by}', within := '{within}')")
    assert str(error.value) == (
        f"Directions compare within one space: '{within}' has no {by}s in '{held}' "
        "(see sae_spaces; for crosscoders similar_at); leave `within` out, or compare by "
        "activation."
    )


def test_within_a_model_other_spaces_are_passed_over(store: Atlas) -> None:
    found = store.rows(
        f"select feature from similar('{CROSSCODER}/4', k := 500, by := 'decoder',"
        " within := 'toy-a')"
    )
    assert {name.rpartition("/")[0] for (name,) in found} == {CROSSCODER, f"{CROSSCODER}-b"}


def test_features_of_many_spaces_in_one_batch(store: Atlas) -> None:
    found, expected = (
        store.rows(
            "select f.feature_id, s.rank, s.feature_id from features as f,"
            f" {macro}(f.feature_id, k := 3, by := 'decoder') as s order by all"
        )
        for macro in ("similar", "similar_exact")
    )
    assert len({row[0] for row in found}) > 0.8 * WIDTH * len(SAES)
    assert found == expected


def test_a_direction_of_length_0_has_no_neighbours_and_is_nobody_s(
    path: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copy(path, tmp_path / "own.atlas"))
    with atlas.open(own, write=True) as opened:
        opened.execute(
            "update vectors set decoder = list_transform(decoder, lambda x: 0::float)"
            " where feature_id = 4"
        )
        for macro in ("similar", "similar_exact"):
            assert opened.rows(f"from {macro}(4, by := 'decoder')") == []
            found = opened.rows(f"select feature_id from {macro}(5, k := 500, by := 'decoder')")
            assert len(found) > WIDTH
            assert (4,) not in found
        assert opened.rows("select norm, share from decoder_norms(4)") == [(0, None)]


def test_decoder_cosine_is_null_across_spaces(store: Atlas) -> None:
    found = store.rows(
        "select a.sae, b.sae, decoder_cosine(a.feature_id, b.feature_id)"
        " from feature_names as a, feature_names as b where a.index = 4 and b.index = 5"
    )
    assert len(found) == len(SPACES) ** 2
    directions = {sae: decoders(store, sae) for sae in SPACES}
    for one, other, cosine in found:
        if SPACES[one][1] == SPACES[other][1]:
            expected = cosines(directions[one], directions[other])[4, 5]
            assert cosine == pytest.approx(expected, abs=1e-6)
        else:
            assert cosine is None


# -- the cache ------------------------------------------------------------------------------------


def test_each_space_has_a_cache_of_its_own(path: Path, tmp_path: Path) -> None:
    own = Path(shutil.copy(path, tmp_path / "own.atlas"))
    with atlas.open(own) as opened:
        for sae in SPACES:
            for by in MEASURES:
                opened.rows(f"from similar('{sae}/4', by := '{by}')")
    made = list((tmp_path / "own.atlas.index").glob("*.npy"))
    spaces = {one for pair in SPACES.values() for one in zip(MEASURES, pair, strict=True)}
    assert len(made) == len(spaces)
    rows = {tuple(json.loads(one.with_suffix(".json").read_text())["shape"]) for one in made}
    assert rows >= {(4 * WIDTH, D), (2 * WIDTH, 2 * D), (WIDTH, 2 * D), (WIDTH, D)}


def test_the_cache_of_another_space_is_not_taken(path: Path, tmp_path: Path) -> None:
    """An SAE that turns out to read elsewhere: same atlas otherwise, same number of rows."""
    own = Path(shutil.copy(path, tmp_path / "own.atlas"))
    query = "from similar('toy-a/1-attn_z/4', k := 3, by := 'decoder')"
    with atlas.open(own) as opened:
        heads = opened.rows(query)
    with atlas.open(own, write=True) as opened, opened.transaction():
        opened.execute("update sae_sites set hook = 'attn_out' where sae_id = 5")
        opened.execute("update sae_sites set hook = 'attn_z' where sae_id = 8")
    with atlas.open(own) as opened:  # even without a new stamp
        stream = opened.rows(query)
        assert {name.rpartition("/")[0] for _, name, *_ in heads} == {"toy-a/1-attn_z"}
        assert stream != heads
        assert [row[1] for row in stream] == [
            row[1] for row in opened.rows(query.replace("similar(", "similar_exact("))
        ]


# -- hook point by hook point ---------------------------------------------------------------------


def test_norms_and_shares_are_of_the_parts(store: Atlas) -> None:
    parts = decoders(store, CROSSCODER).reshape(WIDTH, 2, D)
    norms = np.linalg.norm(parts, axis=2)
    for index in (0, 7):
        found = store.rows(f"select site, norm, share from decoder_norms('{CROSSCODER}/{index}')")
        assert [row[0] for row in found] == ["toy-a/0-resid_post", "toy-a/1-resid_post"]
        np.testing.assert_allclose([row[1] for row in found], norms[index], rtol=1e-6)
        np.testing.assert_allclose(
            [row[2] for row in found], norms[index] / norms[index].sum(), rtol=1e-6
        )
    found = store.rows(
        "select direction from site_decoders join feature_names using (feature_id, feature)"
        f" where sae = '{CROSSCODER}' order by feature_id, place"
    )
    assert (np.array([row[0] for row in found]).reshape(parts.shape) == parts).all()


def test_an_ordinary_feature_has_one_part(store: Atlas) -> None:
    assert store.rows("select site, share from decoder_norms('toy-a/2-mlp_out-transcoder/3')") == [
        ("toy-a/2-mlp_out", 1.0)
    ]


def test_site_cosines_take_each_part_alone(store: Atlas) -> None:
    ours = decoders(store, CROSSCODER).reshape(WIDTH, 2, D)
    theirs = decoders(store, "toy-a/2-mlp_out-transcoder")
    found = store.rows(f"from site_cosines('{CROSSCODER}/3', 'toy-a/2-mlp_out-transcoder/9')")
    assert [row[:2] for row in found] == [
        ("toy-a/0-resid_post", "toy-a/2-mlp_out"),
        ("toy-a/1-resid_post", "toy-a/2-mlp_out"),
    ]
    expected = [cosines(ours[:, place], theirs)[3, 9] for place in (0, 1)]
    np.testing.assert_allclose([row[2] for row in found], expected, atol=1e-6)
    turned = store.rows(f"from site_cosines('{CROSSCODER}/3', '{CROSSCODER}/3')")
    expected = cosines(ours[3], ours[3]).ravel()
    np.testing.assert_allclose([row[2] for row in turned], expected, atol=1e-6)
    assert store.rows(f"from site_cosines('{CROSSCODER}/3', 'toy-a/1-attn_z/3')") == []


def test_similar_at_ranks_every_part_of_the_space(store: Atlas) -> None:
    own = decoders(store, CROSSCODER)[4:5, D:]
    alive = {name for (name,) in store.rows("select feature from feature_cards where alive")}
    expected = {}
    for sae, (_, space) in SPACES.items():
        if space.startswith("toy-a/") and space != "toy-a/1-attn_z":
            parts = decoders(store, sae).reshape(WIDTH, -1, D)
            best = np.max([cosines(own, parts[:, i])[0] for i in range(parts.shape[1])], axis=0)
            expected |= {f"{sae}/{i}": best[i] for i in range(WIDTH)}
    del expected[f"{CROSSCODER}/4"]
    ranked = sorted(expected.keys() & alive, key=lambda name: -expected[name])
    found = store.rows(
        f"select feature, score from similar_at('{CROSSCODER}/4', '1-resid_post', k := 1000)"
    )
    assert [name for name, _ in found] == ranked
    np.testing.assert_allclose([s for _, s in found], [expected[n] for n in ranked], atol=1e-6)
    (nearest,) = store.rows(
        f"select feature, site from similar_at('{CROSSCODER}/4', 'toy-a/1-resid_post', k := 1,"
        " within := 'toy-a/2-mlp_out')"
    )
    assert nearest == (next(n for n in ranked if "2-mlp_out/" in n), "toy-a/2-mlp_out")


def test_similar_at_one_hook_point_is_similar(store: Atlas) -> None:
    at, by = (
        store.rows(f"select feature, score from {call} where feature like '%mlp_out/%'")
        for call in (
            "similar_at('toy-a/0-resid_post/4', '0-resid_post', k := 1000)",
            "similar_exact('toy-a/0-resid_post/4', k := 1000, by := 'decoder')",
        )
    )
    assert [name for name, _ in at] == [name for name, _ in by]
    np.testing.assert_allclose([s for _, s in at], [s for _, s in by], atol=1e-12)


@pytest.mark.parametrize(
    "alias",
    ["features", "asked", "written", "own", "held", "sought", "scored", "theirs", "site_decoders",
     "_sites", "vectors", "a", "b"],
)  # fmt: skip
def test_a_join_s_own_names_never_meet_the_macros(store: Atlas, alias: str) -> None:
    for call in (
        "decoder_norms({})",
        "site_cosines({}, 7)",
        "similar_at({}, '0-resid_post', k := 3)",
    ):
        found = store.rows(
            f"select {alias}.feature_id, m.* from (values (3), (5)) as {alias}(feature_id),"
            f" {call.format(f'{alias}.feature_id')} as m order by all"
        )
        expected = [(f, *row) for f in (3, 5) for row in store.rows(f"from {call.format(f)}")]
        assert found == sorted(expected)


@pytest.mark.parametrize(
    "call, told",
    [
        (f"'{CROSSCODER}/4', '3-resid_post'", f"{CROSSCODER}/4 writes toy-a/0-resid_post, "
         "toy-a/1-resid_post; name one of these, not '3-resid_post'."),
        ("'toy-a/1-attn_z/4', '1-attn_z', within := 'toy-a/0-resid_post'", "Directions compare "
         "within one space: 'toy-a/0-resid_post' has no decoders in 'toy-a/1-attn_z'"),
        ("3, '0-resid_post', k := 0", "k is the number of neighbours, at least 1, not 0."),
    ],
)  # fmt: skip
def test_what_similar_at_cannot_answer_is_told(store: Atlas, call: str, told: str) -> None:
    with pytest.raises(QueryError) as error:
        store.rows(f"from similar_at({call})")
    assert told in str(error.value)


# -- cards ----------------------------------------------------------------------------------------


def test_the_card_tells_what_is_read_and_written(store: Atlas) -> None:
    one = card(store, "toy-a/2-mlp_out-transcoder/3")
    assert one.reads == ("toy-a/2-mlp_norm",)
    assert one.writes == (Written("toy-a/2-mlp_out", 1.0),)
    one = card(store, f"{CROSSCODER}/3")
    assert (
        one.reads
        == ("toy-a/0-resid_post", "toy-a/1-resid_post")
        == tuple(place.site for place in one.writes)
    )
    assert sum(place.share for place in one.writes) == pytest.approx(1)


def test_show_tells_it_where_the_name_does_not(path: Path) -> None:
    text = succeed("show", path, "toy-a/2-mlp_out-transcoder/3")
    assert "reads" in text
    assert "2-mlp_norm" in text
    text = succeed("show", path, f"{CROSSCODER}/3")
    assert "% of the norm)" in text
    assert "0-resid_post" in text
    assert "reads" not in succeed("show", path, "toy-a/0-resid_post/3")


def test_an_atlas_of_the_first_format_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Its SAEs are on the residual stream, and the file has neither sae_sites nor sae_spaces."""
    old = build_synthetic(tmp_path / "old.atlas", documents=6, sites=SITES[:2])
    with atlas.open(old, write=True) as opened:
        expected = opened.rows("from similar(3, by := 'decoder')")
        found = card(opened, 3)
        for one in reversed(scripts.objects()):
            code = scripts._STRING_OR_COMMENT.sub("", one.body)
            if any(name in code for name in ("_sites", "sae_spaces", "site_decoders")):
                kind = "macro table" if one.kind == "table macro" else one.kind
                opened.execute(f"drop {kind} {one.name}")
        opened.execute("drop table sae_sites")
        opened.set_meta("format", "1")
    shutil.rmtree(tmp_path / "old.atlas.index")
    with atlas.open(old) as opened:
        assert opened.rows("from similar(3, by := 'decoder')") == expected
        assert card(opened, 3) == found
