"""Progress on stderr: only what lasts, a line now and then."""

from __future__ import annotations

import pytest

from atlas.cli import _progress
from atlas.cli._progress import Reporter
from atlas.cli._text import amount, duration, one_line, safe, size, token


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(_progress, "time", clock)
    return clock


def test_short_stages_are_silent(clock, capsys):
    with Reporter().task("quick", 100, "tokens") as task:
        for _ in range(10):
            clock.now += 0.1
            task.advance(10)
    assert capsys.readouterr() == ("", "")


def test_long_stages_tell_rate_and_time_left_now_and_then(clock, capsys):
    with Reporter().task("encode", 1000, "tokens") as task:
        for _ in range(100):
            clock.now += 0.5
            task.advance(10)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines[0] == "encode: 4%, 40 of 1.00k tokens, 20 tokens/s, 0:48 left"
    assert lines[-1] == "encode: 1.00k tokens in 0:50"
    assert 3 <= len(lines) <= 5


def test_notes_and_unknown_totals(clock, capsys):
    with Reporter(keep=False).task("train", None, "steps") as task:
        clock.now += 3
        task.note("loss 0.5")
        task.advance(3)
    assert capsys.readouterr().err == "train: 0:03, loss 0.5\n"


def test_stage_that_fails_is_not_called_done(clock, capsys):
    with pytest.raises(ValueError, match="x"), Reporter().task("encode", 10, "tokens"):
        clock.now += 5
        raise ValueError("x")
    assert capsys.readouterr().err == ""


def test_bars_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(_progress, "PATIENCE", 0.05)
    monkeypatch.setenv("FORCE_COLOR", "1")
    reporter = Reporter()
    with reporter.task("encode", 100, "tokens") as task:
        import time

        time.sleep(0.5)
        task.advance(50)
        reporter.notice("By the way.")
        time.sleep(0.3)
    out, err = capsys.readouterr()
    assert out == ""
    assert "encode" in err
    assert "50%" in err
    assert "By the way." in err


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (7, "7"), (950, "950"), (999.6, "1.00k"), (12345, "12.3k"), (4.56e6, "4.56M"),
     (2e9, "2.00G"), (0.1234, "0.123"), (123456, "123k")],
)  # fmt: skip
def test_amounts(number, text):
    assert amount(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (750, "12:30"), (3723, "1:02:03")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_sizes():
    assert [size(n) for n in (0, 1023, 1536, 5 * 2**20, 2**41)] == [
        "0 B", "1023 B", "1.5 KiB", "5.0 MiB", "2.0 TiB",
    ]  # fmt: skip


def test_text_cannot_steer_the_terminal():
    assert safe("a\x1b[31m\x07\u202eb\nc") == "a\\x1b[31m\\x07\\u202eb\nc"
    assert one_line("a\nb\tc\r") == "a⏎b⇥c\\r"
    assert token(" the") == "' the'"
