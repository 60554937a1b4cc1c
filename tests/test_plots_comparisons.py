"""Comparisons of SAEs as pictures: heatmaps of layers, categories, and what they say of chance."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from atlas.errors import BadInput, NotFound
from atlas.plots import plot_comparisons
from atlas.plots.grid import draw_grids
from atlas.plots.heatmap import panels, plot_heatmap
from atlas.plots.records import mark, meanings, sae_axis, short, spread
from atlas.plots.subspaces import plot_subspaces

Row = dict[str, Any]


def row(a: str, b: str, value: float | None, **more: Any) -> Row:
    """A row as the view `universality` has it, of SAEs named by model and layer ('m/3')."""
    null_mean = 0.2
    return {
        "sae_a": f"{a}-resid_post",
        "sae_b": f"{b}-resid_post",
        "layer_a": int(a.rpartition("/")[2]),
        "layer_b": int(b.rpartition("/")[2]),
        "subspace": "all",
        "metric": "svcca",
        "n": 1234,
        "value": value,
        "null_mean": None if value is None else null_mean,
        "null_sd": 0.01,
        "calibrated": None if value is None else (value - null_mean) / (1 - null_mean),
        "q": None if value is None else 0.001,
        "subset_q": None,
        "subset_mean": None,
        "subset_sd": None,
        "ceiling": None,
        "floor": None,
    } | more


def matrix(n_a: int, n_b: int, **more: Any) -> list[Row]:
    return [
        row(f"one/{i}", f"other/{j}", 0.9 - 0.1 * abs(i - j), **more)
        for i in range(n_a)
        for j in range(n_b)
    ]


def semantic(pairs: int, metric: str = "svcca", **values: float) -> list[Row]:
    return [
        row(f"one/{i}", "other/1", value, subspace=name, metric=metric, n=40)
        for i in range(pairs)
        for name, value in values.items()
    ]


def texts(path: Path) -> list[str]:
    """What an SVG file says, line by line."""
    found = re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text("utf-8"))
    return [html.unescape(text).strip() for text in found]


def drawn(rows: list[Row], tmp_path: Path, metric: str = "svcca") -> list[str]:
    path = tmp_path / "x.svg"
    plot_heatmap(rows, path, metric)
    return texts(path)


def test_a_heatmap_tells_values_nulls_and_models(tmp_path):
    rows = matrix(2, 3, ceiling=0.81, floor=0.05)
    rows[0] |= {"n": 7553, "ceiling": 0.86}
    path = tmp_path / "x.svg"
    assert plot_heatmap([*rows, *matrix(9, 9, metric="rsa")], path, "svcca") == 6
    shown = texts(path)
    assert {"value", "null mean: pairs shuffled", "calibrated", "ceiling", "floor"} <= set(shown)
    assert {"one, layer (resid_post)", "other, layer (resid_post)"} <= set(shown)
    assert "SVCCA: one × other" in shown
    assert "1,234–7,553 pairs of features each · calibrated ceiling .81–.86, floor .05" in shown
    assert shown.count(".90") == 2, "the value where layers are equal"
    assert shown.count(".20") == 6, "its null"
    assert shown.count(".75") == 3, "calibrated, of neighbouring layers: .6 / .8"
    assert shown.count("1,234") == 5
    assert "7,553" in shown
    assert list(tmp_path.iterdir()) == [path], "nothing is left beside it"


def test_rows_are_a_and_columns_b_by_layer():
    rows = [row(f"m/{i}", f"n/{j}", (10 * i + j) / 100) for i in (10, 2) for j in (3, 1)]
    down, across = sae_axis(rows, "a"), sae_axis(rows, "b")
    assert (down.labels, across.labels) == (["2", "10"], ["1", "3"])
    value = panels({(one["sae_a"], one["sae_b"]): one for one in rows}, down, across)[0]
    assert value.values.tolist() == [[0.21, 0.23], [1.01, 1.03]]


def test_what_is_missing_is_hatched_and_said(tmp_path):
    assert "not measured" not in drawn(matrix(2, 2), tmp_path)
    for rows in (matrix(2, 2)[:-1], [*matrix(2, 2)[:-1], row("one/1", "other/1", None)]):
        shown = drawn(rows, tmp_path)
        assert "not measured" in shown
        assert shown.count(".20") == 3
    row_with_nan = row("one/0", "other/0", math.nan, calibrated=math.nan, q=math.nan)
    assert "not measured" in drawn([row_with_nan], tmp_path), "nothing to colour at all"


@pytest.mark.parametrize(
    ("q", "subset_q", "kind"),
    [
        (0.05, 0.05, "full"),
        (0.05, None, "full"),
        (None, 0.01, "full"),
        (0.01, 0.06, "left"),
        (0.06, 0.01, "right"),
        (0.06, 0.9, "none"),
        (0.06, None, "none"),
        (None, math.nan, ""),
    ],
)
def test_marks(q, subset_q, kind):
    assert mark({"q": q, "subset_q": subset_q}) == kind


def test_the_legend_tells_only_what_occurs(tmp_path):
    some = matrix(2, 2)
    assert list(meanings(some).values()) == ["q ≤ 0.05: shuffled pairs"]
    some[0] |= {"q": 0.2}
    shown = drawn(some, tmp_path)
    assert {"q ≤ 0.05: shuffled pairs", "q > 0.05"} <= set(shown)
    some = [one | {"subset_q": 0.3} for one in some]
    some[1] |= {"subset_q": 0.01}
    assert list(meanings(some).values()) == [
        "q ≤ 0.05: shuffled pairs, random features",
        "q ≤ 0.05: shuffled pairs alone",
        "q > 0.05",
    ]
    untested = [one | {"q": None, "subset_q": None} for one in some]
    assert not [text for text in drawn(untested, tmp_path) if text.startswith("q ")]


def test_marks_are_drawn_filled_or_hollow():
    some = matrix(1, 2)
    some[1] |= {"q": 0.5}
    axes = {side: sae_axis(some, side) for side in "ab"}
    cells = {(one["sae_a"], one["sae_b"]): one for one in some}
    figure = draw_grids(panels(cells, axes["a"], axes["b"]), axes["a"], axes["b"], "", {})
    value, null_mean, calibrated = figure.axes[:3]
    for panel in (value, calibrated):
        assert [line.get_fillstyle() for line in panel.lines] == ["full", "none"]
    assert not null_mean.lines
    bold = {text.get_text() for text in value.texts if text.get_fontweight() == "bold"}
    assert bold == {".90"}


def test_small_cells_have_no_numbers(tmp_path):
    few, many = drawn(matrix(5, 12), tmp_path), drawn(matrix(12, 26), tmp_path)
    assert "1,234" in few
    assert ".90" in few
    assert "1,234" not in many
    assert ".90" not in many
    assert {str(layer) for layer in range(26)} <= set(many)


def test_several_models_and_variants_have_names_of_their_own(tmp_path):
    rows = [row("one/0", f"{model}/{i}", 0.5) for model in ("p", "q/r") for i in (0, 1)]
    axis = sae_axis(rows, "b")
    assert (axis.labels, axis.groups) == (["0", "1"] * 2, [("p", 2), ("q/r", 2)])
    assert {"p", "q/r", "SVCCA: one × p, q/r"} <= set(drawn(rows, tmp_path))
    rows = [row("one/0", "p/1", 0.5), row("one/0", "p/1", 0.4) | {"sae_b": "p/1-resid_post-wide"}]
    assert sae_axis(rows, "b").labels == ["1-resid_post", "1-resid_post-wide"]
    assert "1-resid_post-wide" in drawn(rows, tmp_path)
    rows = [row("one/0", "p/1", 0.5) | {"layer_b": None}]
    assert sae_axis(rows, "b").labels == ["1-resid_post"]


def test_categories_of_one_pair_are_sorted_and_set_beside_the_uncorrected_rule(tmp_path):
    rows = semantic(1, months=0.3, emotions=0.8, nature=0.5)
    rows += [row("one/0", "other/1", None, subspace="biology", n=2)]
    rows += semantic(1, "svcca_uncapped", emotions=0.99, nature=0.98)
    path = tmp_path / "x.svg"
    assert plot_subspaces([*rows, row("one/0", "other/1", 0.4)], path, "svcca") == 4
    shown = texts(path)
    named = [text for text in shown if text in ("emotions", "months", "nature", "biology")]
    assert named == ["emotions", "nature", "months", "biology"]
    assert {"SVCCA", "SVCCA, 99 % rule uncorrected", "all pairs", "calib.", "n"} <= set(shown)
    assert "SVCCA: one/0-resid_post × other/1-resid_post" in shown
    assert shown.count("not measured") == 3, "biology, and of the other rule two"
    assert shown.count("40") == 5
    assert ".75" in shown, "calibrated: .6 / .8"
    assert "shuffled pairs: mean ± sd" in shown
    assert "random pairs of the pairing: mean ± sd" not in shown
    assert not {"ceiling", "floor"} & set(shown)
    rows = [one | {"ceiling": 0.9, "subset_mean": 0.2, "subset_sd": 0.1} for one in rows]
    plot_subspaces(rows, path, "svcca")
    assert {"ceiling", "random pairs of the pairing: mean ± sd"} <= set(texts(path))


def test_categories_of_several_pairs_are_a_grid(tmp_path):
    rows = semantic(3, months=0.3, emotions=0.8)
    path = tmp_path / "x.svg"
    assert plot_subspaces(rows, path, "svcca") == 6
    shown = texts(path)
    assert {"A0", "A1", "A2", "B1", "layers: A one, B other"} <= set(shown)
    assert [text for text in shown if text in ("months", "emotions")][:2] == ["emotions", "months"]
    assert "SVCCA, 99 % rule uncorrected" not in shown
    plot_subspaces([*rows, *semantic(3, "svcca_uncapped", months=0.99)], path, "svcca")
    shown = texts(path)
    assert "SVCCA, 99 % rule uncorrected" in shown
    assert shown.count(".99") == 3


def test_pairs_of_several_models_go_by_their_names(tmp_path):
    rows = [
        row(f"{model}/1", f"other/{layer}", 0.5, subspace="months")
        for layer in (1, 2)
        for model in ("one", "two")
    ]
    path = tmp_path / "x.svg"
    plot_subspaces(rows, path, "svcca")
    shown = texts(path)
    assert {"one/1-resid_post", "two/1-resid_post", "B1", "B2"} <= set(shown)
    assert [text for text in shown if text.startswith("B")][:4] == ["B1", "B2", "B1", "B2"]


@pytest.mark.parametrize(
    ("rows", "files"),
    [
        (matrix(2, 2), ["x.svg"]),
        (matrix(1, 1), ["x.svg"]),
        (
            [*matrix(2, 2), *matrix(2, 2, metric="rsa(cosine, pearson)")],
            ["x-svcca.svg", "x-rsa-cosine-pearson.svg"],
        ),
        ([*matrix(2, 2), *semantic(2, months=0.3)], ["x-svcca.svg", "x-svcca-categories.svg"]),
        ([*matrix(1, 1), *semantic(1, months=0.3)], ["x.svg"]),
        ([*semantic(1, months=0.3), *semantic(1, "svcca_uncapped", months=0.9)], ["x.svg"]),
        (semantic(1, "svcca_uncapped", months=0.9), ["x.svg"]),
    ],
)
def test_figures_of_a_comparison(rows, files, tmp_path):
    assert [path.name for path in plot_comparisons(rows, tmp_path / "x.svg")] == files
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_the_same_rows_give_the_same_file(kind, tmp_path):
    rows = [*matrix(2, 2, ceiling=0.9)[:-1], *semantic(1, months=0.3)]
    once, again = (plot_comparisons(rows, tmp_path / f"{name}.{kind}") for name in "ab")
    assert len(once) == 2
    for one, other in zip(once, again, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_what_cannot_be_drawn_is_told(tmp_path):
    with pytest.raises(BadInput, match=r"x\.jpg .*end it in one of"):
        plot_comparisons(matrix(1, 1), tmp_path / "x.jpg")
    with pytest.raises(BadInput, match=r"x\.svg cannot be written \(No such file"):
        plot_comparisons(matrix(1, 1), tmp_path / "no" / "x.svg")
    for draw in (plot_heatmap, plot_subspaces):
        with pytest.raises(NotFound, match="by cka is there to draw"):
            draw(matrix(1, 1), tmp_path / "x.svg", "cka")
    with pytest.raises(NotFound, match="No comparison"):
        plot_comparisons([], tmp_path / "x.svg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.678, ".68"),
        (-0.314, "−.31"),
        (-0.004, ".00"),
        (0.999, "1.00"),
        (-1.0, "−1.00"),
        (math.nan, ""),
    ],
)
def test_numbers_are_short(value, text):
    assert short(value) == text


def test_spreads():
    assert spread([0.81, math.nan, 0.86]) == ".81–.86"
    assert spread([0.811, 0.812]) == ".81"
    assert spread([math.nan]) == ""


def test_rows_need_no_more_than_the_columns_named(tmp_path):
    """Rows of a query that leaves nulls out still draw."""
    few: list[Mapping[str, Any]] = [
        {key: value for key, value in one.items() if not key.startswith(("null", "subset_", "q"))}
        for one in matrix(2, 2)
    ]
    assert plot_heatmap(few, tmp_path / "x.svg", "svcca") == 4
