"""Work folders: one process to each, and none left behind when its work is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas.errors import AtlasLocked
from atlas.ingest import workspace as workspaces
from atlas.ingest.workspace import Workspace, remove_all, work_root, workspace


@pytest.fixture
def atlas(tmp_path: Path) -> Path:
    return tmp_path / "a.atlas"


def begun(atlas: Path, key: str, plan: str) -> Workspace:
    with workspace(atlas, key) as work:
        work.finish("begun", at="now", plan=plan)
    return work


def test_a_folder_has_one_owner(atlas: Path) -> None:
    with workspace(atlas, "key"):
        with pytest.raises(AtlasLocked, match="this very ingest"), workspace(atlas, "key"):
            pass
        with workspace(atlas, "other"):
            pass


def test_a_folder_deleted_before_it_was_locked_is_made_anew(
    atlas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner before ends, and deletes the folder, between opening the lock and locking it."""
    old = begun(atlas, "key", "plan")
    lock = workspaces.fcntl.flock
    calls = []

    def late(file: object, operation: int) -> None:
        calls.append(operation)
        if len(calls) == 1:
            old.remove()
        lock(file, operation)  # type: ignore[arg-type]

    monkeypatch.setattr(workspaces.fcntl, "flock", late)
    with workspace(atlas, "key") as work:
        assert (work.folder / "lock").exists()
        assert work.read("begun") is None
        with pytest.raises(AtlasLocked), workspace(atlas, "key"):
            pass


def test_all_folders_of_a_plan_go_but_those_in_use(atlas: Path) -> None:
    begun(atlas, "one", "plan")
    begun(atlas, "two", "plan")
    begun(atlas, "three", "another plan")
    with workspace(atlas, "two"):
        remove_all(atlas, "plan")
        assert sorted(folder.name for folder in work_root(atlas).iterdir()) == ["three", "two"]
    remove_all(atlas, "plan")
    remove_all(atlas, "another plan")
    assert not work_root(atlas).exists()
    remove_all(atlas, "plan")
