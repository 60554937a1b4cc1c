"""Progress on stderr: bars on a terminal, a line now and then elsewhere, nothing under 2 s."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from atlas.cli._text import amount, duration

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

PATIENCE = 2.0
"""Seconds a stage may last before it is shown."""
_HOPELESS = 10 * 3600.0
"""Seconds left that are not told: an estimate from too little."""
LINE_EVERY = 10.0
"""Seconds between two lines where stderr is no terminal; doubles up to ten minutes."""


class _Task:
    """One stage: counts what is done, and shows itself once it lasts."""

    def __init__(self, owner: Reporter, name: str, total: float | None, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = 0.0
        self.text = ""
        self.started = time.monotonic()
        self._owner = owner

    def advance(self, amount: float = 1) -> None:
        self.done += amount
        self._owner.update(self)

    def note(self, text: str) -> None:
        self.text = text
        self._owner.update(self)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    @property
    def figures(self) -> str:
        """'12.3k of 300k tokens, 5.1k tokens/s, 0:56 left'"""
        parts = [duration(self.elapsed)]
        if self.done and self.unit == "%":
            parts = []  # the bar says it
        elif self.done:
            of = f" of {amount(self.total)}" if self.total else ""
            rate = self.done / max(self.elapsed, 1e-9)
            parts = [
                f"{amount(self.done)}{of} {self.unit}",
                f"{amount(rate)} {self.unit}/s",
            ]
        if self.total and self.done:
            left = (self.total - self.done) * self.elapsed / self.done
            if 0 < left < _HOPELESS:
                parts.append(f"{duration(left)} left")
        return ", ".join([*parts, self.text] if self.text else parts)


class Reporter:
    """The command line's `atlas.progress.Progress`."""

    def __init__(self, *, keep: bool = True) -> None:
        """keep: leave a line behind for each finished stage that was shown."""
        self._keep = keep
        self._bars = _Bars() if sys.stderr.isatty() else _Lines()

    @contextlib.contextmanager
    def task(self, name: str, total: float | None, unit: str) -> Iterator[_Task]:
        """Show one stage while the block runs, if it lasts longer than `PATIENCE`."""
        task = _Task(self, name, total, unit)
        self._bars.begin(task)
        finished = False
        try:
            yield task
            finished = True
        finally:
            shown = self._bars.end(task)
            if shown and finished and self._keep:
                did = f"{amount(task.done)} {unit} in " if task.done else ""
                took = f"{name}: {did}{duration(task.elapsed)}"
                self.notice(f"{took}{f', {task.text}' if task.text else ''}")

    def update(self, task: _Task) -> None:
        """Show what has changed, if it is time to."""
        self._bars.update(task)

    def notice(self, sentence: str) -> None:
        """Print one sentence on stderr."""
        self._bars.notice(sentence)


class _Lines:
    """For logs and pipes: one line a stage now and then."""

    def __init__(self) -> None:
        self._next: dict[_Task, tuple[float, float]] = {}

    def begin(self, task: _Task) -> None:
        self._next[task] = (task.started + PATIENCE, LINE_EVERY)

    def update(self, task: _Task) -> None:
        now = time.monotonic()
        due, pause = self._next[task]
        if now >= due:
            self._next[task] = (now + pause, min(2 * pause, 600.0))
            share = f"{task.done / task.total:.0%}, " if task.total else ""
            self.notice(f"{task.name}: {share}{task.figures}")

    def end(self, task: _Task) -> bool:
        del self._next[task]
        return task.elapsed > PATIENCE

    def notice(self, sentence: str) -> None:
        click.echo(sentence, err=True)


class _Bars:
    """For terminals: rich's bars, drawn from the moment a stage has lasted."""

    def __init__(self) -> None:
        self._progress: RichProgress | None = None
        self._ids: dict[_Task, TaskID] = {}
        self._timers: dict[_Task, threading.Timer] = {}
        self._lock = threading.RLock()

    def begin(self, task: _Task) -> None:
        # A timer, because a stage may do its first step for longer than anyone waits in the dark.
        timer = threading.Timer(PATIENCE, self._show, [task])
        timer.daemon = True
        self._timers[task] = timer
        timer.start()

    def _show(self, task: _Task) -> None:
        with self._lock:
            if task not in self._timers:
                return
            if self._progress is None:
                self._progress = _rich_progress()
                self._progress.start()
            self._ids[task] = self._progress.add_task(
                task.name, total=task.total, completed=int(task.done), figures=task.figures
            )

    def update(self, task: _Task) -> None:
        shown = self._ids.get(task)
        if shown is not None and self._progress is not None:
            self._progress.update(shown, completed=task.done, figures=task.figures)

    def end(self, task: _Task) -> bool:
        with self._lock:
            self._timers.pop(task).cancel()
            shown = self._ids.pop(task, None)
            if shown is None or self._progress is None:
                return False
            self._progress.remove_task(shown)
            if not self._ids:
                self._progress.stop()
                self._progress = None
            return True

    def notice(self, sentence: str) -> None:
        with self._lock:
            if self._progress is not None:
                self._progress.console.print(sentence, markup=False, highlight=False)
            else:
                click.echo(sentence, err=True)


def _rich_progress() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )
