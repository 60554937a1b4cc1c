"""The picture of a lineage: who is drawn where, without overlaps, as wide as the legend says."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color
from matplotlib.patches import FancyBboxPatch
from scipy.optimize import isotonic_regression

from atlas.errors import NotFound
from atlas.plots import lineage, plot_lineage
from atlas.plots.layered import _ascending, crossings, levelled, ordered
from atlas.plots.lettering import fit, width

LABELS = ("", "day", "Once · upon · there · time · One · day · more", "text ending in “ an” · “ou”",
          "outside quotations", "x" * 60, "costs $5 or $6", "two\nlines")  # fmt: skip


def graph(seed: int, n_layers: int, n_features: int, n_models: int):
    """Rows and edges of a lineage from the middle layer, as the macro would give them."""
    rng = random.Random(seed)
    root_layer = rng.randrange(n_layers)
    features = {(root_layer, 7): (1.0, 0, [f"own/{root_layer}-resid_post/7"], 0)}
    edges = []
    for direction in (-1, 1):
        layer = root_layer + direction
        while 0 <= layer < n_layers:
            before = [key for key in features if key[0] == layer - direction]
            for index in range(max(1, n_features // n_layers)):
                number, name = len(features), f"own/{layer}-resid_post/{index * 37}"
                joined = rng.sample(before, min(len(before), rng.randint(1, 3)))
                best = (0.0, [])
                for one in joined:
                    value = round(rng.uniform(0.3, 1), 3)
                    above, _, path, other = features[one]
                    pair = (number, other) if direction < 0 else (other, number)
                    edges.append((*pair, value))
                    longer = [name, *path] if direction < 0 else [*path, name]
                    best = max(best, (above * value, longer), key=lambda found: found[0])
                features[layer, index * 37] = (best[0], layer - root_layer, best[1], number)
            layer += direction
    rows = [
        {
            "feature": f"own/{layer}-resid_post/{index}", "feature_id": number, "steps": steps,
            "value": value, "path": path, "counterpart_of": None, "label": rng.choice(LABELS),
        }
        for (layer, index), (value, steps, path, number) in features.items()
    ]  # fmt: skip
    for row in list(rows):
        for model in range(rng.randint(0, n_models)):
            # Few of them, so that some are counterparts of several features.
            other = rng.randrange(3)
            rows.append({
                **row, "feature": f"model-{model}/{other}-mlp_out/{other}", "label": "day",
                "value": row["value"] * rng.uniform(0.3, 1), "counterpart_of": row["feature"],
                "feature_id": 10_000 + 10 * model + other,
            })  # fmt: skip
    return rows, edges


@dataclass
class Drawn:
    """What stands in a figure, in inches from its top left."""

    figure: object
    axes: object
    n: int

    def extent(self, artist):
        box = artist.get_window_extent(self.figure.canvas.get_renderer())
        dpi = self.figure.dpi
        high = self.figure.get_figheight()
        return np.array([box.x0 / dpi, high - box.y1 / dpi, box.x1 / dpi, high - box.y0 / dpi])

    @cached_property
    def boxes(self):
        """Extents of the boxes, as they are drawn, each with what is written in it."""
        found = []
        for patch in self.axes.patches:
            if isinstance(patch, FancyBboxPatch):
                left, top = patch.get_x(), patch.get_y()
                place = np.array([left, top, left + patch.get_width(), top + patch.get_height()])
                found.append((place, [t for t, text in self.texts if inside(text, place, 0.012)]))
        return found

    @cached_property
    def texts(self):
        """All texts of the axes, each with its extent."""
        return [(text.get_text(), self.extent(text)) for text in self.axes.texts]

    @property
    def values(self):
        """Texts on edges, each with its extent."""
        return [(float(t), place) for t, place in self.texts if re.fullmatch(r"\d\.\d\d", t)]

    def lines(self, style):
        return [line for line in self.axes.lines if line.get_linestyle() == style]


def inside(one, other, slack=0.0):
    return bool(np.all(one[:2] >= other[:2] - slack) and np.all(one[2:] <= other[2:] + slack))


def overlap(a, b, slack=0.0):
    return bool(np.all(a[:2] < b[2:] - slack) and np.all(b[:2] < a[2:] - slack))


def atlas_of(edges):
    """What tells all edges among some features."""
    return SimpleNamespace(
        rows=lambda _, given: [e for e in edges if {e[0], e[1]} <= set(given["ids"])]
    )


def draw(rows, edges, tmp_path, **options):
    kept = []
    options = {"measure": "pearson", "at_least": 0.3, **options}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lineage, "save", lambda figure, _: kept.append(figure))
        n = plot_lineage(atlas_of(edges), rows, tmp_path / "x.svg", **options)
    (figure,) = kept
    FigureCanvasAgg(figure)
    figure.set_dpi(150)
    figure.draw_without_rendering()
    return Drawn(figure, figure.axes[0], n)


graphs = st.builds(
    graph, st.integers(0, 10**6), st.integers(2, 12), st.integers(2, 110), st.integers(0, 3)
)
# A figure takes long to measure, and graphs are small: the first that fails says enough.
few = settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@few
@given(graphs)
def test_nothing_overlaps_and_the_strongest_are_drawn(tmp_path, found):
    drawn = draw(*found, tmp_path)
    nothing_overlaps(drawn)
    no_line_runs_through_a_box_or_another_value(drawn)
    the_strongest_of_both_kinds_are_drawn(drawn, found[0])


def nothing_overlaps(drawn):
    page = np.array([0, 0, drawn.figure.get_figwidth(), drawn.figure.get_figheight()])
    boxes = [box for box, _ in drawn.boxes]
    legend = drawn.extent(drawn.axes.get_legend())
    assert len(boxes) == drawn.n
    assert all(inside(place, page) for place in [*boxes, legend, *(t for _, t in drawn.texts)])
    for a, b in combinations([*boxes, legend], 2):
        assert not overlap(a, b)
    for (text, a), (other, b) in combinations(drawn.texts, 2):
        assert not overlap(a, b, 0.01), (text, other)
    for text, place in drawn.texts:
        around = [box for box in boxes if overlap(box, place)]
        assert len(around) <= 1, text
        assert all(inside(place, box, 0.012) for box in around), text


def no_line_runs_through_a_box_or_another_value(drawn):
    inner = [box + 0.005 * np.array([1, 1, -1, -1]) for box, _ in drawn.boxes]
    for line in drawn.axes.lines:
        points = line.get_xydata()
        for box in inner:
            assert not np.any(np.all((points > box[:2]) & (points < box[2:]), axis=1))
    for _, place in drawn.values:
        on_it = [
            line for line in drawn.axes.lines
            if np.any(np.all((line.get_xydata() > place[:2]) & (line.get_xydata() < place[2:]), 1))
        ]  # fmt: skip
        assert len(on_it) == 1


def the_strongest_of_both_kinds_are_drawn(drawn, rows):
    strongest = sorted((row["value"] for row in rows), reverse=True)[: lineage.MOST + 1]
    assert drawn.n == len(strongest)
    least = strongest[-1]
    others = sorted(
        row["feature"] for row in rows if row["counterpart_of"] and row["value"] > least
    )
    written = [words[0][2:] for _, words in drawn.boxes if words[0].startswith("≈ ")]
    missing = list(others)
    for one in written:
        if one in missing:
            missing.remove(one)
    assert not missing
    own = {row["feature"].rsplit("/", 1)[1] for row in rows if row["value"] > least}
    assert own - {words[0] for _, words in drawn.boxes} <= {one.rsplit("/", 1)[1] for one in others}


def row(feature, feature_id, steps, value, path, counterpart_of=None, label="label"):
    return {
        "feature": feature, "feature_id": feature_id, "steps": steps, "value": value, "path": path,
        "counterpart_of": counterpart_of, "label": label,
    }  # fmt: skip


@pytest.fixture
def small():
    """A feature that leads to two of the next layer; all have one counterpart, the first two."""
    root, a, b = "own/0-resid_post/1", "own/1-resid_post/2", "own/1-resid_post/3"
    rows = [
        row(root, 1, 0, 1.0, [root]),
        row(a, 2, 1, 0.8, [root, a]),
        row(b, 3, 1, 0.4, [root, b]),
        row("twin/5-mlp_out/9", 9, 0, 0.9, [root], root),
        row("triplet/5-mlp_out/8", 8, 0, 0.7, [root], root),
        row("twin/5-mlp_out/9", 9, 1, 0.4, [root, a], a),
        row("twin/5-mlp_out/9", 9, 1, 0.36, [root, b], b),
    ]
    return rows, [(1, 2, 0.8), (1, 3, 0.4)]


def test_a_counterpart_stands_below_each_of_its_features(small, tmp_path):
    drawn = draw(*small, tmp_path)
    places = [(words[0], words[1], box) for box, words in drawn.boxes]
    named = {name: box for name, _, box in places if not name.startswith("≈")}
    shown = [box for name, _, box in places if name == "≈ twin/5-mlp_out/9"]
    assert len(shown) == 3
    for own in ("1", "2", "3"):
        (below,) = (
            box for box in shown
            if 0 < box[1] - named[own][3] < 0.1 and 0 < box[0] - named[own][0] < 0.5
        )  # fmt: skip
        assert below[2] <= named[own][2] + 1e-9
    dotted = drawn.lines(":")
    assert len(dotted) == 4
    for line in dotted:
        (x, y), (end, down) = line.get_xydata()[[0, -1]]
        assert any(box[0] < x < box[2] and y == pytest.approx(box[3]) for box in named.values())
        assert any(
            end == pytest.approx(box[0]) and box[1] < down < box[3]
            for name, _, box in places if name.startswith("≈")
        )  # fmt: skip
    # The two of the first feature go apart from the start.
    starts = sorted(line.get_xydata()[0][0] for line in dotted)
    assert len({round(x, 3) for x in starts}) > 2


def test_r_of_counterparts_is_written(small, tmp_path):
    words = [words for _, words in draw(*small, tmp_path).boxes if words[0].startswith("≈")]
    assert sorted(one[1] for one in words) == ["r = 0.50", "r = 0.70", "r = 0.90", "r = 0.90"]


def test_layers_go_from_left_to_right_below_their_names(small, tmp_path):
    rows, edges = small
    drawn = draw(rows, edges, tmp_path)
    lefts = {words[0]: box[0] for box, words in drawn.boxes if not words[0].startswith("≈")}
    assert lefts["1"] < lefts["2"] == lefts["3"]
    headers = {text: place[0] for text, place in drawn.texts if "resid_post" in text}
    assert headers["0-resid_post"] == pytest.approx(lefts["1"], abs=0.02)
    assert headers["1-resid_post"] == pytest.approx(lefts["2"], abs=0.02)
    up = [{**one, "steps": -one["steps"], "path": one["path"][::-1]} for one in rows]
    drawn = draw(up, [(b, a, value) for a, b, value in edges], tmp_path)
    lefts = {words[0]: box[0] for box, words in drawn.boxes if not words[0].startswith("≈")}
    assert lefts["1"] > lefts["2"] == lefts["3"]


def test_widths_are_in_proportion_and_the_legend_tells_them(small, tmp_path):
    drawn = draw(*small, tmp_path)
    strong, weak = sorted(drawn.lines("-"), key=lambda line: -line.get_linewidth())
    assert strong.get_linewidth() == pytest.approx(2 * weak.get_linewidth())
    legend = drawn.axes.get_legend()
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == [
        "Pearson’s r = 0.80",
        "0.60",
        "0.40",
        "counterpart in another model, with its r",
    ]
    *solid, dotted = legend.get_lines()
    for line, value in zip(solid, (0.8, 0.6, 0.4), strict=True):
        assert line.get_linewidth() == pytest.approx(strong.get_linewidth() * value / 0.8)
    assert dotted.get_linestyle() == ":"
    assert sorted(value for value, _ in drawn.values) == [0.4, 0.8]


def test_edges_off_the_strongest_paths_are_pale(tmp_path):
    names = ["own/0-x/1", "own/1-x/2", "own/1-x/3", "own/2-x/4"]
    rows = [
        row(names[0], 1, 0, 1.0, names[:1]),
        row(names[1], 2, 1, 0.9, names[:2]),
        row(names[2], 3, 1, 0.8, [names[0], names[2]]),
        row(names[3], 4, 2, 0.81, [names[0], names[1], names[3]]),
    ]
    drawn = draw(rows, [(1, 2, 0.9), (1, 3, 0.8), (2, 4, 0.9), (3, 4, 0.7)], tmp_path)
    pale = [line for line in drawn.lines("-") if same_color(line.get_color(), lineage._PALE)]
    (line,) = pale
    boxes = {words[0]: box for box, words in drawn.boxes}
    (x, y), (end, down) = line.get_xydata()[[0, -1]]
    assert (x, end) == pytest.approx((boxes["3"][2], boxes["4"][0]))
    assert (y, down) == pytest.approx([boxes[one][[1, 3]].mean() for one in "34"])
    texts = [text.get_text() for text in drawn.axes.get_legend().get_texts()]
    assert "on no feature’s strongest path" in texts
    assert not any("counterpart" in text for text in texts)
    assert 0.7 not in [value for value, _ in drawn.values]


def test_counterparts_alone(tmp_path):
    root = "own/0-resid_post/1"
    drawn = draw(
        [row(root, 1, 0, 1.0, [root]), row("twin/3-x/4", 4, 0, 0.6, [root], root)], [], tmp_path
    )
    assert drawn.n == 2
    (text,) = drawn.axes.get_legend().get_texts()
    assert text.get_text().startswith("counterpart")
    with pytest.raises(NotFound, match="nothing to draw"):
        draw([row(root, 1, 0, 1.0, [root])], [], tmp_path)


def test_what_is_left_out_is_told(tmp_path):
    rows, edges = graph(3, 4, 90, 2)
    drawn = draw(rows, edges, tmp_path, strong=True)
    told = " ".join(text for text, _ in drawn.texts[1:4])
    assert f"the 60 strongest of {len(rows) - 1} features and counterparts" in told
    assert "exceed a fifth of their maximum" in told


@pytest.mark.parametrize("ending", ["svg", "pdf", "png"])
def test_rows_in_any_order_give_the_same_file(tmp_path, ending):
    rows, edges = graph(5, 3, 40, 2)
    atlas = atlas_of(edges)
    files = []
    for seed in range(2):
        random.Random(seed).shuffle(rows)
        path = tmp_path / f"{seed}.{ending}"
        plot_lineage(atlas, rows, path, measure="jaccard", at_least=0.3)
        files.append(path.read_bytes())
    assert files[0] == files[1]


@given(graphs)
@settings(max_examples=30, deadline=None)
def test_fewer_edges_cross(found):
    rows, edges = found
    own = [one for one in rows if one["counterpart_of"] is None]
    steps = sorted({one["steps"] for one in own})
    columns = [[one["feature_id"] for one in own if one["steps"] == step] for step in steps]
    place = {key: i for column in columns for i, key in enumerate(column)}
    step = {one["feature_id"]: one["steps"] for one in own}
    crossed = sum(
        (place[a] - place[c]) * (place[b] - place[d]) < 0
        for (a, b, _), (c, d, _) in combinations(edges, 2)
        if step[a] == step[c]
    )
    assert crossings(columns, edges) == crossed
    order = ordered(columns, edges)
    assert [sorted(column) for column in order] == [sorted(column) for column in columns]
    assert crossings(order, edges) <= crossed
    heights = {key: 0.2 + key % 3 for key in place}
    tops = levelled(order, edges, heights, dict.fromkeys(place, 0.1), 0.5)
    highest = max(sum(heights[key] + 0.5 for key in column) - 0.5 for column in order)
    for column in order:
        for a, b in pairwise(column):
            assert tops[b] >= tops[a] + heights[a] + 0.5 - 1e-9
        assert tops[column[0]] >= -1e-9
        assert tops[column[-1]] + heights[column[-1]] <= highest + 1e-9


def test_a_planted_order_is_found():
    columns = [["a", "b", "c"], ["z", "y", "x"], ["p", "q", "r"]]
    edges = [("a", "x", 1.0), ("b", "y", 1.0), ("c", "z", 1.0), ("x", "r", 1), ("z", "p", 1)]
    assert crossings(columns, edges) == 3
    assert crossings(ordered(columns, edges), edges) == 0
    tops = levelled(
        [["a", "b"], ["x"]], [("a", "x", 0.0), ("b", "x", 1.0)],
        {"a": 1, "b": 1, "x": 1}, {"a": 0.5, "b": 0.5, "x": 0.5}, 1.0,
    )  # fmt: skip
    assert tops == pytest.approx({"a": 0.0, "b": 2.0, "x": 2.0})


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20))
def test_pooled_neighbours_are_isotonic_regression(wanted):
    expected = isotonic_regression(wanted).x
    np.testing.assert_allclose(_ascending(np.array(wanted)), expected, atol=1e-9)


@given(st.lists(st.sampled_from(["day", "·", "“ a time”", "x" * 30, "·", "then"]), max_size=12),
       st.floats(0.3, 2), st.integers(1, 3))  # fmt: skip
def test_text_is_fitted(words, across, lines):
    text = " ".join(words)
    found = fit(text, across, lines, 7)
    assert len(found) <= lines
    assert all(width(line, 7) <= across + 1e-5 for line in found)
    joined = " ".join(found)
    if joined.endswith("…"):
        assert text.startswith(joined[:-1])
    else:
        assert joined == text
    assert all(line.count("“") == line.count("”") for line in found if not line.endswith("…"))
