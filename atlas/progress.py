"""How long-running library code tells its progress, without knowing who listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One running stage."""

    def advance(self, amount: float = 1) -> None:
        """Report `amount` more units done."""

    def note(self, text: str) -> None:
        """Show a short changing figure beside the bar, such as a loss."""


class Progress(Protocol):
    """What long-running functions accept as `progress`."""

    def task(self, name: str, total: float | None, unit: str) -> AbstractContextManager[Task]:
        """Context manager around one stage of `total` units (None where unknown)."""

    def notice(self, sentence: str) -> None:
        """Tell the user one sentence (stderr, never stdout)."""


class _SilentTask:
    def advance(self, amount: float = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Silent:
    """The default: tells nobody."""

    @contextmanager
    def task(self, name: str, total: float | None, unit: str) -> Iterator[Task]:
        """Listen to nothing."""
        yield _SilentTask()

    def notice(self, sentence: str) -> None:
        """Say nothing."""
