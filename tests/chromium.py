"""Headless Chromium for tests of the page; skips where it or its driver is not installed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.page_answers import Answers, Params, Refused

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "atlas" / "web" / "static"
ORIGIN = "http://127.0.0.1:9"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}


class Browser:
    """Headless Chromium; its pages note their faults."""

    def __init__(self, chromium: Any) -> None:
        self._chromium = chromium

    @contextmanager
    def page(self, address: str, given: Answers | None = None, **context: Any) -> Iterator[Any]:
        """A page; whatever it reports as a fault or a breach of the CSP fails the test.

        given: answers in place of a server; without, the requests go to the network.
        """
        opened = self._chromium.new_context(
            **{"viewport": {"width": 1200, "height": 800}, **context}
        )
        page = opened.new_page()
        page.set_default_timeout(20_000)
        page.faults, page.asked = [], []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("console", lambda said: page.faults.append(said.text) if _breach(said) else None)
        if given is not None:
            page.route(f"{ORIGIN}/**", lambda route: _answer(route, given, page.asked))
        try:
            page.goto(address)
            yield page
            assert page.evaluate("window.hacked") is None
            assert page.faults == []
        finally:
            opened.close()


def _breach(said: Any) -> bool:
    return said.type == "error" and "Failed to load resource" not in said.text


def _answer(route: Any, given: Answers, asked: list[tuple[str, Params]]) -> None:
    request = route.request
    parts = urlsplit(request.url)
    if not parts.path.startswith("/api/"):
        file = STATIC / (parts.path.rsplit("/", 1)[1] or "index.html")
        route.fulfill(
            body=file.read_bytes(),
            content_type=TYPES[file.suffix],
            headers={"Content-Security-Policy": CSP},
        )
        return
    params = dict(parse_qsl(parts.query)) if request.method == "GET" else request.post_data_json
    asked.append((parts.path, params))
    try:
        status, body = 200, given[parts.path](params)
    except Refused as refused:
        status, body = refused.status, {"error": str(refused)}
    route.fulfill(status=status, body=json.dumps(body), content_type="application/json")


@contextmanager
def started() -> Iterator[Browser]:
    """Headless Chromium; the test is skipped where it or its driver is not installed."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if path is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield Browser(chromium)
        finally:
            chromium.close()
