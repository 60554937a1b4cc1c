"""The command line describes itself."""

from __future__ import annotations

import shlex

import click
import pytest

import atlas
from atlas.cli import SECTIONS, main
from tests.commandline import ROOT, invoke, succeed

COMMANDS = [name for names in SECTIONS.values() for name in names]


def command(name):
    return main.get_command(click.Context(main), name)


def test_every_module_is_a_command():
    modules = {path.stem for path in (ROOT / "cli").glob("[a-z]*.py")}
    assert modules == set(COMMANDS)


def test_help_lists_the_commands_in_order():
    text = succeed("--help")
    places = [text.index(f"\n  {name} ") for name in COMMANDS]
    assert places == sorted(places)
    for title in SECTIONS:
        assert f"{title}:" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(name):
    text = succeed(name, "--help")
    assert "Examples:" in text
    assert command(name).get_short_help_str(80)
    assert "..." not in command(name).get_short_help_str(80)
    for option in command(name).params:
        if isinstance(option, click.Option):
            assert option.help, option.name


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_valid(name):
    assert command(name).examples
    for example in command(name).examples:
        program, called, *words = shlex.split(example.partition(" > ")[0])
        assert (program, called) == ("atlas", name)
        command(name).make_context(name, words)  # raises where an option is unknown


def test_version():
    assert succeed("--version") == succeed("-V") == f"atlas {atlas.__version__}\n"


def test_unknown_command_names_the_nearest():
    result = invoke("serach")
    assert result.exit_code == 2
    assert "'search'" in result.stderr
    assert result.stdout == ""


def test_no_command_shows_the_help():
    result = invoke()
    assert result.exit_code == 2
    assert "similar" in result.output


@pytest.mark.parametrize("words", [["show"], ["similar", "x.atlas"], ["sql", "x.atlas", "a", "b"]])
def test_missing_and_surplus_arguments(words):
    result = invoke(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")
