"""The committed bundle of the page is what the sources say, small, and asks nobody else."""

from __future__ import annotations

import hashlib
import json
import re

from tests.chromium import ROOT, STATIC

WEB = ROOT / "web"


def test_bundle_is_of_these_sources() -> None:
    names = [
        path.relative_to(WEB).as_posix() for path in (WEB / "src").rglob("*") if path.is_file()
    ]
    names += ["build.mjs", "package-lock.json", "package.json", "tsconfig.json"]
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(f"{name}\0".encode() + (WEB / name).read_bytes() + b"\0")
    first = (STATIC / "atlas.js").read_text().split("\n", 1)[0]
    assert first == f"/* sources {digest.hexdigest()} */", "the bundle is stale; run `make web`"
    for name in ("index.html", "icon.svg"):
        assert (STATIC / name).read_bytes() == (WEB / "src" / name).read_bytes()


def test_bundle_is_small_and_needs_nothing_from_elsewhere() -> None:
    files = {path.name: path.read_text() for path in STATIC.iterdir()}
    assert set(files) == {"atlas.js", "atlas.css", "index.html", "icon.svg"}
    assert sum(map(len, files.values())) < 500_000
    for name, text in files.items():
        outside = set(re.findall(r"https?://[^\s\"'`)]+", text))
        # Names of XML, and a library's hint where to report a fault; neither is ever asked.
        outside -= {"http://www.w3.org/2000/svg", "https://github.com/erikbrinkman/d3-dag/issues"}
        assert outside == set(), name
    assert "eval(" not in re.sub(r"\w(eval\()", "", files["atlas.js"])
    assert "new Function" not in files["atlas.js"]
    assert "innerHTML" not in files["atlas.js"]
    assert "<style" not in files["index.html"]
    assert not re.search(r"<script(?! src)|\son\w+=|style=", files["index.html"])


def test_lockfile_names_no_host() -> None:
    locked = json.loads((WEB / "package-lock.json").read_text())
    assert "://" not in json.dumps([p.get("resolved") for p in locked["packages"].values()])
    asked = json.loads((WEB / "package.json").read_text())
    assert set(asked["dependencies"]) == {"d3-dag", "d3-scale"}
