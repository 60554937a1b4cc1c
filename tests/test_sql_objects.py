"""The files of sql/: names, documentation, and examples that run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import atlas
from atlas import Atlas, catalog, scripts

OBJECTS = scripts.objects()
# The documentation speaks of the demo's models.
DEMO_TO_TOY = {
    "stdlib-a/1-resid_post": "toy-a/0-resid_post",
    "stdlib-a/3-resid_post": "toy-a/1-resid_post",
    "stdlib-gpt2/1-resid_post": "toy-c/2-resid_post",
    "stdlib-gpt2": "toy-c",
    "stdlib-a": "toy-a",
    "stdlib-b": "toy-b",
}


@pytest.fixture(scope="module")
def store(toy: Path) -> Iterator[Atlas]:
    with atlas.open(toy) as opened:
        yield opened


def named(one: scripts.SqlObject) -> str:
    return one.name


@pytest.mark.parametrize("one", OBJECTS, ids=named)
def test_the_file_is_called_as_the_object(one: scripts.SqlObject) -> None:
    assert one.path.stem == one.name
    assert one.name == one.name.lower()


@pytest.mark.parametrize("one", OBJECTS, ids=named)
def test_the_header_begins_with_a_sentence(one: scripts.SqlObject) -> None:
    assert one.summary.endswith((".", "null.")), one.summary
    assert len(one.summary) <= 110


@pytest.mark.parametrize("one", [one for one in OBJECTS if not one.public], ids=named)
def test_a_helper_is_used(one: scripts.SqlObject) -> None:
    assert any(re.search(rf"\b{one.name}\b", other.body) for other in OBJECTS if other != one)


@pytest.mark.parametrize("one", [one for one in OBJECTS if one.public], ids=named)
def test_a_public_object_has_an_example(one: scripts.SqlObject) -> None:
    assert one.examples


@pytest.mark.parametrize(
    "one", [one for one in OBJECTS if one.public and one.kind != "view"], ids=named
)
def test_every_argument_is_explained(one: scripts.SqlObject) -> None:
    arguments = one.signature.partition("(")[2].rstrip(")")
    explained = [
        name.strip()
        for line in one.doc.splitlines()
        if ": " in line and not line.startswith(" ")
        for name in line.split(": ")[0].split(",")
    ]
    # A default may be a list, with commas of its own.
    for argument in re.findall(r"(?:^|,)\s*(\w+)\s*(?=:=|,|$)", arguments):
        assert argument in explained


@pytest.mark.parametrize("one", [one for one in OBJECTS if one.kind == "view"], ids=named)
def test_a_view_states_its_grain(one: scripts.SqlObject) -> None:
    assert "row" in one.summary.lower()


def examples() -> list[object]:
    """Every example; lines that each begin a statement are so many examples."""
    found = []
    for one in OBJECTS:
        for number, example in enumerate(one.examples, 1):
            lines = example.splitlines()
            # A select that goes on in the next line is one statement.
            whole = len(lines) == 1 or all(
                line.startswith("from ") or (line.startswith("select ") and " from " in line)
                for line in lines
            )
            found += [
                pytest.param(line, id=f"{one.name}-{number}")
                for line in (lines if whole else [example])
            ]
    return found


@pytest.mark.parametrize("example", examples())
def test_examples_run(store: Atlas, example: str) -> None:
    for demo, toy in DEMO_TO_TOY.items():
        example = example.replace(demo, toy)
    store.rows(example)


def test_the_documentation_is_in_the_file(store: Atlas) -> None:
    comments = store.rows(
        "select view_name, comment from duckdb_views() where not internal"
        " union select function_name, comment from duckdb_functions() where not internal"
        " and database_name = current_database()"
    )
    assert {(one.name, one.doc) for one in OBJECTS} == set(comments)


def test_a_view_may_have_the_name_of_a_macro(store: Atlas) -> None:
    """It is the macro with its defaults; who asks for the name is told of the arguments."""
    kinds: dict[str, set[str]] = {}
    for one in OBJECTS:
        kinds.setdefault(one.name, set()).add(one.kind)
    both = [name for name, found in kinds.items() if len(found) > 1]
    assert "passed_through" in both
    for name in both:
        assert kinds[name] == {"view", "table macro"}
        assert store.rows(f"from {name} order by all") == store.rows(f"from {name}() order by all")
        assert catalog.entry(store, name).signature.startswith(f"{name}(")


def test_no_macro_joins_on_the_name_of_its_own_parameter(store: Atlas) -> None:
    """A parameter that is also a column's name would be put in the column's place."""
    columns = {name for (name,) in store.rows("select column_name from duckdb_columns()")}
    for one in OBJECTS:
        if one.kind == "view":
            continue
        arguments = one.signature.partition("(")[2].rstrip(")")
        names = {a.split(":=")[0].strip() for a in arguments.split(",")} & columns
        body = scripts._STRING_OR_COMMENT.sub("", one.body).partition(")")[2]
        for name in names:
            assert f"using ({name})" not in body, f"{one.name} joins using its parameter {name}"
