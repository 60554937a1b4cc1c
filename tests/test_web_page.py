"""The page of `atlas view` in headless Chromium, on answers made up by tests/page_answers.py."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chromium import ORIGIN, STATIC, Browser, started
from tests.page_answers import EVIL, Refused, answers, graph, name


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as browser:
        yield browser


def at(view: str) -> str:
    return f"{ORIGIN}/{view}"


def in_graph(page: Any, layer: int, index: int) -> tuple[float, float]:
    """Where a feature of the planted graph stands on the screen while all of it is in view."""
    box = page.locator(".graph").bounding_box()
    return (
        box["x"] + box["width"] * (layer + 0.5) / 3,
        box["y"] + 40 + (box["height"] - 50) * (index + 0.5) / 40,
    )


def results(page: Any, count: int) -> None:
    """Waits for as many search results."""
    page.locator(f".results .hits li:nth-child({count}):last-child").wait_for()


def test_search_click_and_back(browser: Browser) -> None:
    with browser.page(at(""), answers()) as page:
        page.get_by_role("searchbox").fill("concept 12 of")
        results(page, 3)
        page.get_by_role("link", name="concept 12 of layer 1").click()
        page.get_by_role("heading", name="concept 12 of layer 1").wait_for()
        assert page.url.endswith("#/feature/m/1-resid_post/12")
        page.go_back()
        results(page, 3)
        assert page.get_by_role("searchbox").input_value() == "concept 12 of"


def test_search_by_keyboard(browser: Browser) -> None:
    with browser.page(at("#/sql"), answers()) as page:
        page.get_by_role("heading", name="SQL").click()
        page.keyboard.press("/")
        page.locator("#search").wait_for()
        page.keyboard.type("concept 12 of")
        results(page, 3)
        for key in ("ArrowDown", "ArrowDown", "ArrowUp", "ArrowDown", "Enter"):
            page.keyboard.press(key)
        page.get_by_role("heading", name="concept 12 of layer 1").wait_for()


def test_feature_page_shades_tokens_and_tells_their_activation(browser: Browser) -> None:
    with browser.page(at("#/feature/m/1-resid_post/3"), answers()) as page:
        page.locator(".context").wait_for()
        strong, weak = page.locator(".context .piece.on").all()
        shades = [
            float(p.evaluate("e => e.style.getPropertyValue('--shade')")) for p in (strong, weak)
        ]
        assert shades[0] > shades[1] > 0
        assert "0.8" in strong.evaluate("e => getComputedStyle(e).backgroundColor")
        weak.hover()
        page.locator(".tooltip", has_text="1.25").wait_for()
        assert page.locator(".diagram .box").count() == 3
        page.locator(".diagram .box").nth(2).click()
        page.get_by_role("heading", name="concept 3 of layer 2").wait_for()


def test_graph_hover_click_walk(browser: Browser) -> None:
    with browser.page(at("#/graph"), answers()) as page:
        page.locator('.graph[data-mode="nodes"]').wait_for()
        page.mouse.move(*in_graph(page, 1, 5))
        tip = page.locator(".tooltip")
        tip.wait_for()
        assert "concept 5 of layer 1" in tip.inner_text()
        assert "0.90" in tip.inner_text()
        page.mouse.click(*in_graph(page, 1, 5))
        panel = page.get_by_role("complementary", name="Selected feature")
        panel.get_by_role("heading", name="concept 5 of layer 1").wait_for()
        panel.get_by_role("button", name="concept 5 of layer 0").wait_for()
        page.wait_for_url(re.compile("select=m%2F1-resid_post%2F5"))
        page.keyboard.press("ArrowRight")
        panel.get_by_role("heading", name="concept 5 of layer 2").wait_for()
        page.keyboard.press("ArrowDown")
        panel.get_by_role("heading", name="concept 6 of layer 2").wait_for()
        panel.get_by_role("button", name="concept 6 of layer 1").click()
        panel.get_by_role("heading", name="concept 6 of layer 1").wait_for()
        page.keyboard.press("Escape")
        panel.wait_for(state="hidden")


def test_graph_opens_where_its_address_says(browser: Browser) -> None:
    link = "#/graph/m/resid_post?y0=0.5&y1=0.9&select=m%2F1-resid_post%2F30&id=130"
    with browser.page(at(link), answers()) as page:
        page.get_by_role("heading", name="concept 30 of layer 1").wait_for()
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("#/feature/m/1-resid_post/30"))
        page.go_back()
        page.get_by_role("complementary", name="Selected feature").wait_for()
        assert "y0=0.5" in page.url


def test_graph_asks_for_what_comes_into_view(browser: Browser) -> None:
    given = answers() | {"/api/graph": lambda asked: graph(asked, most=100)}
    with browser.page(at("#/graph"), given) as page:
        page.locator('.graph[data-mode="bands"]').wait_for()
        box = page.locator(".graph").bounding_box()
        page.mouse.move(box["x"] + 600, box["y"] + 300)
        for _ in range(5):
            page.mouse.wheel(0, -60)
        page.locator('.graph[data-mode="nodes"]').wait_for()
        windows = [asked for path, asked in page.asked if path == "/api/graph" and "y0" in asked]
        assert float(windows[-1]["y1"]) - float(windows[-1]["y0"]) < 1
        before = len(page.asked)
        page.mouse.down()
        page.mouse.move(box["x"] + 600, box["y"] + 700, steps=8)
        page.mouse.up()
        page.wait_for_url(re.compile("y0="))
        page.locator('.graph[data-mode="nodes"]').wait_for()
        later = [asked for path, asked in page.asked[before:] if path == "/api/graph"]
        assert len(later) <= 6  # not one for every movement
        page.keyboard.press("0")
        page.locator('.graph[data-mode="bands"]').wait_for()


def test_graph_highlights_and_other_settings(browser: Browser) -> None:
    with browser.page(at("#/graph"), answers()) as page:
        page.locator('.graph[data-mode="nodes"]').wait_for()
        page.get_by_label("measure").select_option("jaccard")
        page.wait_for_url(re.compile("measure=jaccard"))
        page.get_by_role("status").get_by_text("jaccard ≥ 0.5").wait_for()
        page.get_by_label("at least").fill("0.7")
        page.get_by_role("status").get_by_text("≥ 0.7").wait_for()
        page.get_by_role("searchbox").fill("concept 20 of")
        page.get_by_role("button", name="concept 20 of layer 2").click()
        page.get_by_role("heading", name="concept 20 of layer 2").wait_for()


def test_flow_counts_live_or_all(browser: Browser) -> None:
    with browser.page(at("#/flow"), answers()) as page:
        row = page.get_by_role("row", name="0 → 1")
        row.wait_for()
        assert "30 75.0 %" in row.inner_text()
        page.get_by_text("all features", exact=True).click()
        assert "30 60.0 %" in row.inner_text()
        assert page.url.endswith("of=all")


def test_heatmap_cell_to_pairs(browser: Browser) -> None:
    with browser.page(at("#/heatmap"), answers()) as page:
        cell = page.get_by_role("button", name="m/0-resid_post and w/1-resid_post")
        cell.hover()
        page.locator(".tooltip", has_text="q 0.500").wait_for()
        assert "0.40" in cell.text_content()
        page.get_by_text("chance", exact=True).click()
        assert "0.10" in cell.text_content()
        cell.click()
        page.get_by_role("cell", name="0.750").wait_for()
        assert ("/api/pairs", {"pairing_id": "1", "limit": "100"}) in page.asked


def test_communities(browser: Browser) -> None:
    with browser.page(at("#/community"), answers()) as page:
        page.get_by_role("link", name=EVIL).first.click()
        page.get_by_role("heading", name="layer 1").wait_for()
        page.get_by_role("link", name="show in graph").click()
        page.locator('.graph[data-mode="nodes"]').wait_for()


def test_sentence_shows_what_is_active_on_chosen_tokens(browser: Browser) -> None:
    with browser.page(at("#/sentence"), answers()) as page:
        page.get_by_role("textbox", name="Sentence").fill("one two evil")
        page.keyboard.press("Enter")
        page.locator(".diagram .box").first.wait_for()
        assert page.locator(".diagram .box").count() == 9
        page.locator(".diagram .box").first.hover()
        assert page.locator(".chip.on").count() == 1
        page.get_by_role("button", name="two").click()
        assert page.locator(".diagram .box").count() == 3
        page.locator(".diagram .box").first.click()
        page.get_by_role("heading", name="concept 1 of layer 0").wait_for()
        page.go_back()
        page.locator(".diagram .box").first.wait_for()
        assert page.get_by_role("textbox", name="Sentence").input_value() == "one two evil"


def test_sql_rows_links_and_error(browser: Browser) -> None:
    with browser.page(at("#/sql"), answers()) as page:
        box = page.get_by_role("textbox", name="SQL query")
        box.fill("drop it")
        page.keyboard.press("Control+Enter")
        page.get_by_role("alert").get_by_text("syntax error at or near “drop it”").wait_for()
        box.fill("select feature, n from somewhere")
        page.get_by_role("button", name="Run").click()
        page.get_by_role("link", name=name(0, 3)).click()
        page.get_by_role("heading", name="concept 3 of layer 0").wait_for()
        page.go_back()
        page.get_by_role("link", name=name(0, 3)).wait_for()  # without asking again
        assert sum(path == "/api/sql" for path, _ in page.asked) == 2


def test_query_of_an_address_is_not_run(browser: Browser) -> None:
    with browser.page(at("#/sql?query=select+1"), answers()) as page:
        assert page.get_by_role("textbox", name="SQL query").input_value() == "select 1"
        page.wait_for_timeout(300)
        assert not any(path == "/api/sql" for path, _ in page.asked)


VIEWS = (
    "#/search?q=onerror",
    "#/feature/m/1-resid_post/7",
    "#/graph/m/resid_post?select=m/1-resid_post/7&id=107&q=onerror",
    "#/community/1",
    "#/community/1/1",
    "#/sentence/m?text=one two evil four five six seven eight",
    "#/heatmap",
    "#/flow",
)


@pytest.mark.parametrize("view", VIEWS)
def test_texts_of_an_atlas_stay_texts(browser: Browser, view: str) -> None:
    with browser.page(at(view), answers()) as page:
        page.wait_for_load_state("networkidle")
        if view == "#/heatmap":
            page.locator(".cell").nth(1).click()
        if view != "#/flow":
            page.get_by_text("<img src=x").first.wait_for()
        page.wait_for_timeout(200)
        assert page.locator("img, script:not([src])").count() == 0


@pytest.mark.parametrize("view", [*VIEWS, "#/sql", "#/nowhere"])
def test_everything_one_can_use_has_a_name(browser: Browser, view: str) -> None:
    with browser.page(at(view), answers()) as page:
        page.wait_for_load_state("networkidle")
        nameless = page.evaluate(
            """() => [...document.querySelectorAll(
                'button, a[href], input, select, textarea, [role=button], [role=link]')]
              .filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() ||
                               [...(e.labels ?? [])].some((l) => l.textContent.trim())))
              .map((e) => e.outerHTML)"""
        )
        assert nameless == []
        assert page.locator("h1").count() == 1 or view == "#/nowhere"


def test_errors_are_told_and_can_be_tried_again(browser: Browser) -> None:
    broken = True

    def feature(asked: dict[str, str]) -> Any:
        if broken:
            raise Refused(504, "The answer took too long; ask for less.")
        return answers()["/api/feature"](asked)

    with browser.page(
        at("#/feature/m/1-resid_post/3"), answers() | {"/api/feature": feature}
    ) as page:
        page.get_by_text("The answer took too long; ask for less.").wait_for()
        broken = False
        page.get_by_role("button", name="Try again").click()
        page.get_by_role("heading", name="concept 3 of layer 1").wait_for()
        page.goto(at("#/feature/m/1-resid_post/999"))
        page.get_by_text("There is no feature m/1-resid_post/999").wait_for()
        page.unroute_all()  # nothing answers at this address now
        page.goto(at("#/feature/m/1-resid_post/4"))
        page.get_by_text("The server does not answer any more").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_scheme_follows_the_reader(browser: Browser, scheme: str) -> None:
    with browser.page(at("#/flow"), answers(), color_scheme=scheme) as page:
        page.locator(".sankey").wait_for()

        def lightness() -> int:
            colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
            return sum(map(int, re.findall(r"\d+", colour)))

        assert (lightness() > 600) == (scheme == "light")
        page.keyboard.press("d")
        assert (lightness() > 600) == (scheme == "dark")
        page.reload()
        page.locator(".sankey").wait_for()
        assert (lightness() > 600) == (scheme == "dark")


def test_feature_page_does_not_jump_while_it_loads(browser: Browser) -> None:
    with browser.page(at("#/feature/m/1-resid_post/3"), answers()) as page:
        page.locator(".neighbours a").first.wait_for()
        shifts = page.evaluate(
            """() => new Promise((done) => {
                let sum = 0;
                new PerformanceObserver((seen) => {
                  for (const shift of seen.getEntries()) sum += shift.value;
                }).observe({ type: "layout-shift", buffered: true });
                setTimeout(() => done(sum), 400);
              })"""
        )
        assert shifts < 0.05  # 0.1 begins to be felt (Cumulative Layout Shift)


def test_narrow_screen_has_no_sideways_scroll(browser: Browser) -> None:
    for view in VIEWS:
        with browser.page(at(view), answers(), viewport={"width": 390, "height": 800}) as page:
            page.wait_for_load_state("networkidle")
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 390, view


def test_one_file_without_a_server(browser: Browser, tmp_path: Path) -> None:
    """An export: the bundle within the page, and its answers as JSON."""
    given = answers()
    kept = [
        ("/api/atlas", {}),
        *(("/api/feature", {"name": name(n, 7)}) for n in (0, 1)),
        ("/api/graph", {"model": "m", "hook": "resid_post"}),
    ]
    settings = {"measure": "pearson", "at_least": "0.5", "limit": "9999"}
    data = {
        "exported_at": "2026-01-01T00:00:00Z",
        "note": "two features",
        "answers": [
            {"path": path, "params": params, "body": given[path](params | settings)}
            for path, params in kept
        ],
    }
    embedded = json.dumps(data).replace("<", "\\u003c")
    script = (STATIC / "atlas.js").read_text()
    file = tmp_path / "export.html"
    file.write_text(
        f"<!doctype html><meta charset=utf-8><style>{(STATIC / 'atlas.css').read_text()}</style>"
        f'<body><script type="application/json" id="atlas-data">{embedded}</script>'
        f"<script>{script}</script>"
    )
    assert "</script" not in script
    with browser.page(file.as_uri()) as page:
        page.get_by_text("two features").wait_for()
        results(page, 2)
        page.get_by_role("link", name="m/1-resid_post/7").click()
        page.get_by_role("heading", name="<img src=x").wait_for()
        page.get_by_text("This is not part of the exported page").first.wait_for()
        page.get_by_role("link", name="Graph", exact=True).click()
        page.locator('.graph[data-mode="nodes"]').wait_for()
        assert page.get_by_role("link", name="SQL").count() == 0
