"""The frontier as a picture, and what `atlas info` shows of metrics."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import atlas
from atlas.errors import BadInput, NotFound
from atlas.plots import plot_frontier
from tests.commandline import invoke, succeed, told
from tests.sweep import ARCHITECTURES, FIRST, build_sweep
from tests.synthetic import SAES


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sweep(tmp_path_factory.mktemp("plots") / "sweep.atlas")


@pytest.fixture(scope="module")
def store(path: Path):
    with atlas.open(path) as opened:
        yield opened


def texts(svg: str) -> list[str]:
    return [text.strip() for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def test_the_picture_shows_every_hook_point_and_architecture(store, tmp_path):
    file = tmp_path / "frontier.svg"
    assert plot_frontier(store, file) == 30 + len(SAES)
    shown = texts(file.read_text("utf-8"))
    for title in ("toy-a  2-resid_post", "toy-a  3-resid_post", "toy-c  2-resid_post"):
        assert title in shown
    assert set(ARCHITECTURES) <= set(shown)
    assert {"1,024 features", "4,096 features", "best for its L0", "L0"} <= set(shown)
    assert "cross entropy, spliced (nats)" in shown
    assert "model as it is" in shown
    assert list(tmp_path.iterdir()) == [file], "nothing is left beside it"


def test_another_metric(store, tmp_path):
    file = tmp_path / "frontier.svg"
    plot_frontier(store, file, "explained_variance")
    shown = texts(file.read_text("utf-8"))
    assert "explained variance" in shown
    assert "model as it is" not in shown


@pytest.mark.parametrize("kind", ["svg", "png", "pdf", "PNG"])
def test_the_same_atlas_gives_the_same_file(store, tmp_path, kind):
    files = [tmp_path / f"{name}.{kind}" for name in "ab"]
    for file in files:
        plot_frontier(store, file)
    one, other = (file.read_bytes() for file in files)
    assert one == other
    begins = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[kind.lower()]
    assert one.startswith(begins)
    if kind == "png":
        width, height = struct.unpack(">II", one[16:24])
        assert width > 1000
        assert height > 300


def test_what_cannot_be_drawn_is_told(store, tmp_path):
    with pytest.raises(BadInput, match=r"x\.jpg .*end it in one of \.svg, \.png, \.pdf"):
        plot_frontier(store, tmp_path / "x.jpg")
    with pytest.raises(BadInput, match=r"x\.svg cannot be written \(No such file"):
        plot_frontier(store, tmp_path / "no" / "x.svg")
    with pytest.raises(NotFound, match=r"the metric 'beauty'; draw one of .*ce_spliced"):
        plot_frontier(store, tmp_path / "x.svg", "beauty")
    with (
        atlas.create(tmp_path / "empty.atlas") as empty,
        pytest.raises(NotFound, match="no SAE to draw"),
    ):
        plot_frontier(empty, tmp_path / "x.svg")
    assert not list(tmp_path.glob("*x.*"))


def test_models_without_a_next_token_are_drawn_by_variance(tmp_path):
    path = build_sweep(tmp_path / "sweep.atlas")
    with atlas.open(path, write=True) as store:
        store.execute("delete from sae_metrics where metric like 'ce%'")
    with atlas.open(path) as store:
        plot_frontier(store, tmp_path / "x.svg")
    assert "variance unexplained" in texts((tmp_path / "x.svg").read_text("utf-8"))


def test_the_command_draws(path, tmp_path):
    file = tmp_path / "x.svg"
    result = invoke("info", path, "--plot", file, "--metric", "explained_variance")
    assert result.exit_code == 0
    assert f"{file} shows" in result.stderr
    assert "explained variance" in texts(file.read_text("utf-8"))
    assert "end it in one of" in told(invoke("info", path, "--plot", tmp_path / "x.gif"))
    assert invoke("info", path, "--metric", "kl").exit_code == 2
    assert invoke("info", path, SAES[0], "--plot", file).exit_code == 2


def test_info_of_an_sae_says_what_its_metrics_mean(path):
    text = succeed("info", path, SAES[0])
    assert re.search(r"explained_variance +0\.8000 +higher +1 − Σ‖y − ŷ‖² / Σ‖y − ȳ‖²", text)
    assert re.search(r"absorption_letters +2 +how many", text)
    assert re.search(r"no token +3 +█", text)
    assert re.search(r"capital +0\.700 +0\.800 +0\n", text)
    assert re.search(r"a +10 +20\.0% +0\.300 +3 +4\n", text)
    found = json.loads(succeed("info", path, SAES[0], "-f", "json"))
    assert {"card", "metrics", "density", "probes", "absorptions"} <= set(found)
    assert found["card"]["sae"] == SAES[0]
    assert f"{SAES[0]}" in told(invoke("info", path, "toy-a/9-resid_post"))


def test_info_names_architecture_and_verdict(tmp_path):
    path = build_sweep(tmp_path / "sweep.atlas")
    assert "quality" not in succeed("info", path)
    assert re.search(rf"toy-a/2-resid_post-{FIRST} +jumprelu +1,024 ", succeed("info", path))
    with atlas.open(path, write=True) as store:
        store.execute("update saes set quality = 'conforms' where sae_id = 1")
        store.execute("update saes set quality = 'L0 is 3, declared is 30' where sae_id = 2")
    text = succeed("info", path)
    assert re.search(rf"{SAES[1]} .* conforms\n", text)
    assert re.search(rf"{SAES[2]} .* deviates\n", text)
    assert re.search(rf"{SAES[0]} .* –\n", text)
    assert "quality: L0 is 3, declared is 30" in succeed("info", path, SAES[2])


def test_nothing_else_loads_matplotlib(path):
    code = (
        "import sys\nfrom atlas.cli import main\n"
        f"try: main(['info', {str(path)!r}])\nexcept SystemExit: pass\n"
        "sys.exit('matplotlib' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
