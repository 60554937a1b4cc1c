"""ATLAS may be left out where the variable names it."""

from __future__ import annotations

import shutil

import pytest

from tests.commandline import invoke, succeed, told


@pytest.fixture
def env(toy):
    return {"ATLAS": str(toy)}


def test_variable_stands_for_the_first_argument(toy, env):
    assert succeed("show", "3", env=env) == succeed("show", toy, "3")
    assert succeed("macros", "find", env=env) == succeed("macros", toy, "find")
    assert succeed("macros", env=env) == succeed("macros", toy)
    assert succeed("sql", "select 1 as a", env=env) == "a\n1\n"
    assert succeed("search", "dog", "cat", env=env) == succeed("search", toy, "dog", "cat")
    assert succeed("search", "--promotes", "the", env=env)
    assert succeed("info", "-f", "json", env=env)


def test_options_may_stand_anywhere(toy, env):
    assert succeed("show", "-n", "1", "3", env=env) == succeed("show", toy, "3", "-n", "1")


def test_a_named_atlas_wins(toy, tmp_path):
    nowhere = {"ATLAS": str(tmp_path / "nowhere.atlas")}
    assert succeed("show", toy, "3", env=nowhere)
    assert succeed("search", toy, "dog", env=nowhere)
    assert succeed("sql", toy, "select 1", env=nowhere)
    other = shutil.copy(toy, tmp_path / "named-otherwise")
    assert succeed("macros", other, "find", env=nowhere)


def test_a_named_atlas_that_is_not_there_is_told(toy, env, tmp_path):
    assert "missing.atlas" in told(invoke("sql", tmp_path / "missing.atlas", "select 1", env=env))
    assert "no-suffix" in told(invoke("show", tmp_path / "no-suffix", "3", env=env))


def test_variable_that_begins_with_a_dash(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(toy, "-f.atlas")
    assert succeed("info", env={"ATLAS": "-f.atlas"})


def test_without_either_it_is_a_usage_error():
    result = invoke("info")
    assert result.exit_code == 2
    assert "ATLAS" in result.stderr
