"""The work folder beside an atlas: what an unfinished ingest has done so far, and nobody else's."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from atlas.errors import AtlasLocked, BadInput


def work_root(atlas: Path) -> Path:
    """Where all work folders of an atlas lie."""
    return atlas.with_name(atlas.name + ".work")


class Workspace:
    """The folder of one plan: finished stages leave a marker, and are not done twice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, *parts: str) -> Path:
        """A path in the folder, its parent made."""
        path = self.folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def read(self, stage: str) -> dict[str, Any] | None:
        """What `finish` recorded for that stage, or None if it is not finished."""
        try:
            loaded: dict[str, Any] = json.loads((self.folder / f"{stage}.json").read_text("utf-8"))
        except FileNotFoundError:
            return None
        return loaded

    def finish(self, stage: str, **facts: object) -> None:
        """Mark a stage as done, with facts that a resumed run needs."""
        path = self.path(f"{stage}.json")
        part = path.with_suffix(".part")
        with part.open("w", encoding="utf-8") as stream:
            json.dump(facts, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)

    def has_results(self) -> bool:
        """Whether anything here took long to make."""
        return self.read("trained") is not None or any(self.folder.glob("training/*"))

    def remove(self) -> None:
        """Delete the folder, and the root with it if no other plan is under way."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()


@contextlib.contextmanager
def workspace(atlas: Path, key: str) -> Iterator[Workspace]:
    """The work folder of that key, held by this process alone; AtlasLocked otherwise."""
    folder = work_root(atlas) / key
    try:
        lock = _lock(folder)
    except BlockingIOError as error:
        raise AtlasLocked(
            f"Another process is doing this very ingest (work folder {folder}); wait for it to end."
        ) from error
    except OSError as error:
        raise BadInput(
            f"The work folder {folder} cannot be made ({error.strerror}); put the atlas where you "
            "may write."
        ) from error
    with lock:
        yield Workspace(folder)


def remove_all(atlas: Path, plan: str) -> None:
    """Delete every work folder of that plan (`Plan.sha256`) in which no process is at work."""
    for folder in work_root(atlas).glob("*/"):
        work = Workspace(folder)
        begun = work.read("begun")
        if begun is not None and begun["plan"] == plan:
            with contextlib.suppress(OSError), _lock(folder):
                work.remove()


def _lock(folder: Path) -> TextIO:
    """The lock file of a folder, which is made, locked until closed; BlockingIOError if taken."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack, contextlib.suppress(FileNotFoundError):
            lock = stack.enter_context((folder / "lock").open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last owner may have ended, and deleted the folder, since it was opened here.
            if os.path.samestat(os.fstat(lock.fileno()), (folder / "lock").stat()):
                stack.pop_all()
                return lock
