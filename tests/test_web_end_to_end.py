"""`atlas view` as a reader meets it: the real server, in headless Chromium."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import atlas
from atlas.ingest.plan import IngestOptions
from atlas.ingest.run import ingest
from tests import tiny
from tests.chromium import Browser, started
from tests.commandline import COMMAND, succeed
from tests.page_answers import EVIL
from tests.planted_layers import PlantedLayers


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as browser:
        yield browser


@contextmanager
def served(path: Path) -> Iterator[str]:
    """The address at which `atlas view` shows an atlas."""
    command = [*COMMAND, "view", str(path), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
            assert found is not None
            yield found[0]
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def hostile(layers: PlantedLayers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted layers with labels, all of which try to break out of the page."""
    path = tmp_path_factory.mktemp("hostile") / "layers.atlas"
    shutil.copy(layers.path, path)
    with atlas.open(path, write=True) as opened, opened.transaction():
        opened.execute(
            """
            insert into labels by name
            select feature_id, ? || ' f' || feature_id || 'f' as text, 'words' as method,
                'test' as explainer, 0.5 as score, 'test' as scored_by
            from features
            """,
            [EVIL],
        )
    return path


@pytest.fixture(scope="module")
def address(hostile: Path) -> Iterator[str]:
    with served(hostile) as address:
        yield address


def test_search_feature_lineage_and_back(
    browser: Browser, address: str, layers: PlantedLayers
) -> None:
    upstream, downstream = min(layers.truth.passes)
    with browser.page(address) as page:
        page.get_by_role("searchbox").fill(f"f{upstream}f")
        page.locator(".results h2").wait_for(state="detached")  # not the best labels
        page.locator(".hits a.feature", has_text=f" f{upstream}f").first.click()
        page.get_by_role("heading", name=f"f{upstream}f").wait_for()
        page.get_by_text("of tokens").first.wait_for()
        assert re.search(r"#/feature/deep/\d+-\w+/\d+$", page.url)
        page.locator(".diagram").wait_for()
        successor = page.locator(f'.diagram .box[aria-label*="f{downstream}f"]')
        successor.click()
        page.get_by_role("heading", name=f"f{downstream}f").wait_for()
        page.go_back()
        page.get_by_role("heading", name=f"f{upstream}f").wait_for()


def test_graph_loads_pans_and_opens_a_feature(browser: Browser, address: str) -> None:
    with browser.page(f"{address}#/graph") as page:
        page.locator('.graph[data-mode="nodes"]').wait_for()
        box = page.locator(".graph").bounding_box()
        page.mouse.move(box["x"] + 500, box["y"] + 300)
        for _ in range(6):
            page.mouse.wheel(0, -60)
        page.mouse.down()
        page.mouse.move(box["x"] + 500, box["y"] + 500, steps=5)
        page.mouse.up()
        page.wait_for_url(re.compile("y0="))
        page.locator(".graph-search input").fill("f30f")
        page.locator(".graph-hits button").first.click()
        page.get_by_role("complementary").get_by_role("heading", name="f30f").wait_for()
        page.get_by_role("link", name="all of it").click()
        page.get_by_role("heading", name="f30f").wait_for()
        page.get_by_role("link", name="show in graph").click()
        page.get_by_role("complementary").get_by_role("heading", name="f30f").wait_for()


def test_flow_has_every_step(browser: Browser, address: str) -> None:
    with browser.page(f"{address}#/flow") as page:
        page.get_by_role("row", name="0 → 1").wait_for()
        assert page.locator(".sankey .passed").count() == 3


def test_sql_answers_and_refuses(browser: Browser, address: str) -> None:
    with browser.page(f"{address}#/sql") as page:
        box = page.get_by_role("textbox", name="SQL query")
        box.fill("select feature, label from feature_cards limit 3")
        page.keyboard.press("Control+Enter")
        page.get_by_role("link", name="deep/0-resid_post/0").first.wait_for()
        for refused in ("select nothing", "drop table labels", "copy labels to '/tmp/labels.csv'"):
            box.fill(refused)
            page.keyboard.press("Control+Enter")
            page.get_by_role("alert").wait_for()
            box.fill("select 1 as one")
            page.keyboard.press("Control+Enter")
            page.get_by_role("cell", name="1", exact=True).wait_for()


@pytest.mark.slow
def test_sentence_read_by_a_model(browser: Browser, tmp_path: Path) -> None:
    tiny.make_model(tmp_path / "reader")
    options = IngestOptions(
        model=str(tmp_path / "reader"),
        corpus=str(tiny.make_corpus(tmp_path)),
        width="32",
        k="4",
        train_tokens="6k",
        reference_tokens="3k",
        context=32,
        device="cpu",
    )
    ingest(tmp_path / "a.atlas", options)
    with atlas.open(tmp_path / "a.atlas") as opened:
        text = opened.row("select text[:60] from documents where document_id = 3")[0]
    with served(tmp_path / "a.atlas") as address, browser.page(f"{address}#/sentence") as page:
        page.set_default_timeout(60_000)
        page.get_by_role("textbox", name="Sentence").fill(text)
        page.keyboard.press("Enter")
        page.locator(".diagram .box").first.wait_for()
        chips = page.locator(".chip").all_text_contents()
        assert "".join(chips).replace("\u00a0", " ").strip() == text.strip()
        boxes = page.locator(".diagram .box")
        boxes.first.hover()
        assert page.locator(".chip.on").count() >= 1
        everywhere = boxes.count()
        page.locator(".chip").nth(2).click()
        assert 0 < boxes.count() < everywhere
        boxes.first.click()
        page.locator(".context .piece.on").first.wait_for()


def test_feature_that_is_not_there(browser: Browser, address: str) -> None:
    with browser.page(f"{address}#/feature/deep/0-resid_post/99999") as page:
        page.get_by_role("alert").get_by_text("0-resid_post").wait_for()


def test_export_works_from_a_file(browser: Browser, hostile: Path, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    succeed(
        "view", hostile, "--export", file, "--features", "deep/1-*", "--most", 12, "--no-similar"
    )
    with browser.page(file.as_uri()) as page:
        page.locator(".exported").wait_for()
        page.locator(".hits a.feature", has_text="deep/1-").first.click()
        page.get_by_role("heading", name="<img src=x").wait_for()
        page.locator(".diagram").wait_for()
        page.get_by_role("link", name="Graph", exact=True).click()
        page.locator('.graph[data-mode="nodes"]').wait_for()
        page.get_by_role("link", name="Flow").click()
        page.locator(".sankey").wait_for()
