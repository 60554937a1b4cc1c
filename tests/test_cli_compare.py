"""`atlas compare` on the command line."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

import atlas
from tests.commandline import invoke, process, succeed, told

FEW = ("--min-joint", "3", "--permutations", "49", "--subsets", "19", "--shifts", "4")


@pytest.fixture
def copied(toy: Path, tmp_path: Path) -> Path:
    path = tmp_path / "mine.atlas"
    shutil.copy(toy, path)
    return path


def compare(path: Path, *args: object) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(succeed("compare", path, *args, *FEW))))


def test_rows_of_two_models(copied: Path) -> None:
    rows = compare(copied, "toy-a", "toy-c", "--metric", "rsa,rsa(cosine, pearson)")
    assert [(row["sae_a"], row["metric"]) for row in rows] == [
        (f"toy-a/{layer}-resid_post", metric)
        for metric in ("rsa", "rsa(cosine, pearson)")
        for layer in (0, 1)
    ]
    assert {row["sae_b"] for row in rows} == {"toy-c/2-resid_post"}
    assert all(0 < float(row["p"]) <= float(row["q"]) <= 1 for row in rows)
    assert "subspace" not in rows[0]
    with atlas.open(copied) as a:
        (count,) = a.row(
            "select count(*) from comparison_cards where run_id = ?", [rows[0]["run_id"]]
        ) or (0,)
    assert count == 4


def test_given_again_it_is_told_and_the_same(copied: Path) -> None:
    first = invoke("compare", copied, "toy-a", "toy-b", *FEW, "-f", "json")
    again = invoke("compare", copied, "toy-a", "toy-b", *FEW, "-f", "json")
    assert json.loads(first.stdout) == json.loads(again.stdout)
    assert "nothing was computed" not in first.stderr
    assert again.stderr == "Kept from an earlier run; nothing was computed.\n"


def test_categories_with_both_nulls(copied: Path) -> None:
    rows = compare(copied, "toy-a/0-resid_post", "toy-c", "--semantic", "--metric", "svcca")
    assert rows[0]["subspace"] == "all"
    assert {"subset_q", "q"} <= rows[0].keys()


def test_ceiling_and_floor_are_columns(copied: Path) -> None:
    rows = compare(
        copied, "toy-a/0-resid_post", "toy-c", "--ceiling", "toy-b", "--floor", "toy-b",
        "--metric", "cka",
    )  # fmt: skip
    assert len(rows) == 1
    assert float(rows[0]["ceiling"]) <= 1
    assert rows[0]["floor"]


def test_figures_are_written_for_each_metric(copied: Path, tmp_path: Path) -> None:
    result = invoke(
        "compare", copied, "toy-a", "toy-c", *FEW, "--metric", "svcca,rsa",
        "--plot", tmp_path / "layers.svg",
    )  # fmt: skip
    assert result.exit_code == 0
    names = sorted(path.name for path in tmp_path.glob("*.svg"))
    assert names == ["layers-rsa.svg", "layers-svcca.svg"]
    assert all(name in result.stderr for name in names)


@pytest.mark.parametrize(
    "option, names",
    [
        ("--metric", ("svcca_k1", "mean_correlation", "procrustes")),
        ("--method", ("mutual", "sae_match", "lan2024")),
    ],
)
def test_what_can_be_chosen_is_listed(option: str, names: tuple[str, ...]) -> None:
    listed = succeed("compare", option, "list")
    assert all(name in listed for name in names)


@pytest.mark.parametrize(
    "args, sentence",
    [
        (("toy-a", "toy-x"), "There is no 'toy-x' in this atlas; its SAEs are"),
        (("toy-a", "toy-b", "--metric", "svca"), "There is no measure 'svca'; there are"),
        (("toy-a", "toy-b", "--method", "all"), "method is one of mutual, best, hungarian"),
        (("toy-a", "toy-c", "--over", "tokens"), "The tokens of 'pieces' are not those of"),
        (("toy-b", "toy-b"), "'toy-b' and 'toy-b' are one SAE; name two SAEs, models"),
        (("toy-a", "toy-b", "--plot", "a.bmp"), "a.bmp says no format that can be drawn; end"),
    ],
)
def test_what_cannot_be_is_told(copied: Path, args: tuple[str, ...], sentence: str) -> None:
    assert told(invoke("compare", copied, *args, *FEW)).startswith(sentence)


def test_in_a_real_process(copied: Path) -> None:
    done = process("compare", copied, "toy-a", "toy-b", *FEW, "--metric", "cka", "-f", "ndjson")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
