"""The course of a training as files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atlas.errors import BadInput
from atlas.ingest.training.record import Record


def lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_entries_come_once_each_and_a_resumed_run_begins_the_file_anew(tmp_path):
    entries = [{"tokens": 100 * i, "l0": 16.0, "loss": 1 / i} for i in range(1, 6)]
    file = tmp_path / "log" / "org" / "model" / "3-resid_post.ndjson"
    record = Record(tmp_path / "log", "org/model")
    record({"3-resid_post": entries[:2]})
    assert lines(file) == entries[:2]
    record({"3-resid_post": entries[:4]})
    assert lines(file) == entries[:4]
    # Killed, and gone on with from a checkpoint made after the third entry.
    resumed = Record(tmp_path / "log", "org/model")
    resumed({"3-resid_post": entries[:3]})
    assert lines(file) == entries[:3]
    resumed({"3-resid_post": entries})
    assert lines(file) == entries


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "log").write_text("a file")
    with pytest.raises(BadInput, match=r"--log .* cannot be made"):
        Record(tmp_path / "log", "model")
