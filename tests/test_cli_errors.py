"""How commands end: told errors, interrupts, faults of the program."""

from __future__ import annotations

import errno

import pytest

from atlas.cli import _errors, _options, main
from atlas.errors import BadInput
from tests.commandline import invoke, told


@pytest.fixture
def failing(toy, monkeypatch):
    """Runs a command whose opening of the atlas raises."""

    def run(error, **kwargs):
        def fail(path, wait):
            raise error

        monkeypatch.setattr("atlas.cli.info.open_atlas", fail)
        return invoke("info", toy, **kwargs)

    return run


def test_told_error_is_its_sentence(failing):
    assert told(failing(BadInput("It is so; do that."))) == "It is so; do that."


def test_system_error_names_the_file(failing):
    sentence = told(failing(OSError(errno.ENOSPC, "No space left on device", "/tmp/x")))
    assert sentence == "/tmp/x: No space left on device; make room there."


def test_interrupt(failing):
    result = failing(KeyboardInterrupt())
    assert result.exit_code == 130
    assert result.stderr.strip() == ""


def test_fault_of_the_program_is_one_line_too(failing):
    result = failing(KeyError("x\ny"))
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "KeyError" in line
    assert "ATLAS_DEBUG=1" in line


def test_debug_lets_it_through(failing):
    result = failing(KeyError("x"), env={"ATLAS_DEBUG": "1"})
    assert isinstance(result.exception, KeyError)


def test_command_may_be_called_from_python(toy):
    assert main(["info", str(toy)], standalone_mode=False) is None


def test_memory_error_names_a_way_out():
    assert "fewer rows" in _errors.sentence(MemoryError())


def test_negative_wait_is_a_usage_error(toy):
    assert invoke("info", toy, "--wait", "-1").exit_code == 2


def test_variable_is_the_documented_one():
    assert _options.VARIABLE == "ATLAS"
