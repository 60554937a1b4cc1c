"""info, show, search, similar and macros: what they print, and that it is the library's answer."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import polars as pl
import pytest

import atlas
from atlas.cards import card
from atlas.summary import summary
from tests.commandline import invoke, succeed, told
from tests.synthetic import SAES

FEATURE = f"{SAES[0]}/3"


@pytest.fixture(scope="module")
def opened(toy):
    with atlas.open(toy) as store:
        yield store


def rows(*args):
    return json.loads(succeed(*args, "-f", "json"))


def as_json(value):
    return json.loads(json.dumps(dataclasses.asdict(value)))


def test_info(toy, opened):
    text = succeed("info", toy)
    for name in (*SAES, "toy-c", "characters", "made-up"):
        assert name in text
    found = rows("info", toy)
    assert found == as_json(summary(opened))
    tables = {one["name"]: one["rows"] for one in found["tables"]}
    for name in ("features", "activations", "tokens", "saes"):
        assert tables[name] == opened.row(f"select count(*) from {name}")[0]


def test_info_of_an_empty_atlas(tmp_path):
    path = tmp_path / "empty.atlas"
    atlas.create(path).close()
    assert "0 features" in succeed("info", path)
    assert rows("info", path)["saes"] == []


def test_show_is_the_card(toy, opened):
    assert rows("show", toy, FEATURE) == as_json(card(opened, FEATURE, contexts=8))
    assert rows("show", toy, "3", "-n", "2", "--similar") == as_json(
        card(opened, 3, contexts=2, similar=True)
    )


def test_show_marks_the_peak_in_a_pipe(toy, opened):
    text = succeed("show", toy, FEATURE)
    assert "\x1b" not in text
    for context in card(opened, FEATURE, contexts=8).contexts:
        assert context.marked.rstrip() in text
    assert card(opened, FEATURE).label in text


def test_show_of_a_dead_feature(toy):
    assert "dead" in succeed("show", toy, f"{SAES[0]}/23")


def test_search_by_words_is_find(toy, opened):
    assert [row["feature"] for row in rows("search", toy, "happy", "dog")] == [
        row[0] for row in opened.rows("select feature from find('happy dog') order by rank")
    ]


@pytest.mark.parametrize(
    ("option", "macro", "text"),
    [("--promotes", "promotes", "the"), ("--suppresses", "suppresses", "a"),
     ("--fires-on", "fires_on", "dog")],
)  # fmt: skip
def test_search_by_tokens(toy, opened, option, macro, text):
    found = [row["feature"] for row in rows("search", toy, option, text, "-n", "5")]
    assert found
    assert found == [
        row[0] for row in opened.rows(f"select feature from {macro}(?, n := 5)", [text])
    ]


@pytest.mark.parametrize("within", ["toy-a", SAES[3]])
def test_search_within_counts_after_the_filter(toy, within):
    every = [row["feature"] for row in rows("search", toy, "dog", "-n", "1000")]
    expected = [name for name in every if name.startswith(f"{within}/")]
    found = rows("search", toy, "dog", "--within", within, "-n", "2")
    assert [row["feature"] for row in found] == expected[:2]
    assert [row["rank"] for row in found] == [1, 2]


@pytest.mark.parametrize("words", [[], ["dog", "--promotes", "the"]])
def test_search_wants_one_question(toy, words):
    assert invoke("search", toy, *words).exit_code == 2


@pytest.mark.parametrize("by", ["activation", "decoder", "encoder"])
def test_similar_and_exact_agree(toy, by):
    fast = rows("similar", toy, FEATURE, "--by", by, "-k", "4")
    exact = rows("similar", toy, FEATURE, "--by", by, "-k", "4", "--exact")
    assert [row["feature"] for row in fast] == [row["feature"] for row in exact]
    assert len(fast) == 4
    for one, other in zip(fast, exact, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-6)


def test_similar_within(toy):
    found = rows("similar", toy, FEATURE, "--within", "toy-c", "-k", "3")
    assert found
    assert all(row["feature"].startswith("toy-c/") for row in found)


def test_macros_lists_what_can_be_used(toy):
    found = {row["name"]: row for row in rows("macros", toy)}
    assert found["contexts"]["signature"] == "contexts(feature, n := 10)"
    assert found["sae_cards"]["kind"] == "view"
    assert not any(name.startswith("_") for name in found)
    assert all(row["summary"] for row in found.values())
    text = succeed("macros", toy)
    assert all(row["signature"] in text for row in found.values())


def test_macros_explains_one(toy):
    text = succeed("macros", toy, "contexts")
    assert "feature: name or id" in text
    assert "from contexts(" in text
    assert rows("macros", toy, "contexts")["doc"] in text


def test_macros_of_other_hands_are_listed_apart(tmp_path):
    path = tmp_path / "own.atlas"
    with atlas.create(path) as made:
        made.execute("create macro twice(x) as 2 * x")
    found = {row["name"]: row for row in rows("macros", path)}
    assert found["twice"]["topic"] == "own"
    assert found["twice"]["signature"] == "twice(x)"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["show", "{}", "toy-a/0-resid_post/99"], "0 to 23"),
        (["show", "{}", "toy-z/0-resid_post/1"], "toy-a/0-resid_post"),
        (["similar", "{}", "7777"], "95"),
        (["similar", "{}", "3", "--within", "toy-z"], "toy-a/0-resid_post"),
        (["search", "{}", "dog", "--within", "toy-z"], "toy-a/0-resid_post"),
        (["macros", "{}", "context"], "contexts"),
        (["macros", "{}", "xyzzy"], "atlas macros"),
    ],
)
def test_failed_lookup_says_what_is_there(toy, words, hint):
    assert hint in told(invoke(*(word.format(toy) for word in words)))


@pytest.mark.parametrize("kind", ["csv", "json", "ndjson", "parquet"])
@pytest.mark.parametrize(
    "words",
    [["search", "dog"], ["similar", FEATURE], ["sql", "from feature_cards order by feature_id"]],
)
def test_formats_hold_the_same_rows(toy, words, kind):
    name, *rest = words
    result = invoke(name, toy, *rest, "-f", kind)
    assert result.exit_code == 0
    assert result.stderr == ""
    expected = rows(name, toy, *rest)
    if kind == "parquet":
        found = pl.read_parquet(io.BytesIO(result.stdout_bytes)).to_dicts()
    elif kind == "csv":
        found = list(csv.DictReader(io.StringIO(result.stdout)))
    else:
        lines = result.stdout if kind == "json" else f"[{','.join(result.stdout.splitlines())}]"
        found = json.loads(lines)
    assert [str(row["feature"]) for row in found] == [row["feature"] for row in expected]
    assert list(found[0]) == list(expected[0])


def test_table_in_a_pipe_is_whole(toy):
    text = succeed("sql", toy, "select feature, top_words, 'x' || repeat('y', 500) as long "
                   "from feature_cards order by feature_id", "-f", "table")  # fmt: skip
    lines = text.splitlines()
    assert len(lines) == 2 + 96
    assert all(line.endswith("y" * 500) for line in lines[2:])
    assert "…" not in text
    assert not any(line.endswith(" ") for line in lines)
