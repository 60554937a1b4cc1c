"""`atlas export`: to a file with a manifest, or to stdout."""

from __future__ import annotations

import json

import polars as pl
import pytest

from tests.commandline import invoke, succeed, told
from tests.synthetic import SAES

QUERY = "select sae, l0 from sae_cards order by sae_id"


def test_query_to_a_file(toy, tmp_path):
    path = tmp_path / "table.parquet"
    result = invoke("export", toy, "--sql", QUERY, "--to", path)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "4 rows" in result.stderr
    assert pl.read_parquet(path)["sae"].to_list() == list(SAES)
    assert json.loads((tmp_path / "table.parquet.manifest.json").read_text())["query"] == QUERY


def test_query_from_a_file(toy, tmp_path):
    (tmp_path / "query.sql").write_text(QUERY)
    assert succeed("export", toy, "--sql", f"@{tmp_path / 'query.sql'}") == succeed(
        "export", toy, "--sql", QUERY
    )


def test_stdout_is_csv_unless_told_otherwise(toy):
    assert succeed("export", toy, "--sql", "select 1 as a") == "a\n1\n"
    assert succeed("export", toy, "--sql", "select 1 as a", "-f", "json") == '[{"a": 1}]\n'


def test_format_wins_over_the_suffix(toy, tmp_path):
    path = tmp_path / "rows.csv"
    succeed("export", toy, "--sql", "select 1 as a", "--to", path, "-f", "ndjson")
    assert path.read_text() == '{"a": 1}\n'


def test_features_with_parts(toy, tmp_path):
    path = tmp_path / "features.ndjson"
    succeed("export", toy, "--features", "toy-a/1-*,3", "--with", "labels, vectors", "--to", path)
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(found) == 25
    assert found[0]["feature"] == f"{SAES[0]}/3"
    assert len(found[0]["decoder"]) == 16
    assert found[0]["labels"][0]["text"] == found[0]["label"]
    assert "examples" not in found[0]


@pytest.mark.parametrize(
    "words",
    [[], ["--sql", "select 1", "--features", "3"], ["--sql", "select 1", "--with", "labels"],
     ["--sql", "select 1", "-f", "xml"]],
)  # fmt: skip
def test_usage_errors(toy, words):
    assert invoke("export", toy, *words).exit_code == 2


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--features", "toy-x/*"], "toy-x"),
        (["--features", "3", "--with", "weights"], "labels"),
        (["--sql", "@/nowhere/q.sql"], "/nowhere/q.sql"),
        (["--sql", "select 1", "--to", "/nowhere/rows.csv"], "/nowhere"),
        (["--sql", "select 1", "--to", "rows.txt"], ".parquet"),
        (["--sql", "selec"], "selec"),
    ],
)
def test_told_errors(toy, words, hint):
    assert hint in told(invoke("export", toy, *words))
