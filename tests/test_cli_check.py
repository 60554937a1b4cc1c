"""`atlas check`: truths that hold, fail, or cannot be asked."""

from __future__ import annotations

import json
import shutil

import pytest

import atlas
from atlas import scripts
from atlas.scripts import check_files
from tests.commandline import invoke, succeed

HOLDS = "-- Every feature has a SAE.\nselect * from features where sae_id is null;\n"
FAILS = "-- No feature has index 3.\nselect feature_id, index from features where index = 3\n"
BROKEN = "-- Cannot be asked.\nselect * from nowhere;\n"


@pytest.fixture
def checks(tmp_path, monkeypatch):
    def install(**texts):
        for name, text in texts.items():
            (tmp_path / f"{name}.sql").write_text(text)
        monkeypatch.setattr(scripts, "check_files", lambda: sorted(tmp_path.glob("*.sql")))

    return install


def test_sound_atlas(toy):
    result = invoke("check", toy, "-f", "json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [row["name"] for row in found] == [path.stem for path in check_files()]
    assert all(row["passed"] for row in found)
    assert "hold" in result.stderr


def test_failure_is_counted_shown_and_told(toy, checks):
    checks(holds=HOLDS, fails=FAILS)
    result = invoke("check", toy, "-f", "json")
    assert result.exit_code == 1
    fails, holds = json.loads(result.stdout)
    assert (holds["passed"], holds["violations"]) == (True, 0)
    assert (fails["passed"], fails["violations"]) == (False, 4)
    assert fails["summary"] == "No feature has index 3."
    assert len(fails["examples"]) == 3
    assert "index=3" in fails["examples"][0]
    assert "fails" in result.stderr
    assert "Traceback" not in result.stderr


def test_check_that_cannot_run_fails(toy, checks):
    checks(broken=BROKEN)
    result = invoke("check", toy, "-f", "ndjson")
    assert result.exit_code == 1
    assert "nowhere" in json.loads(result.stdout)["error"]


def test_an_older_atlas_is_not_to_be_made_again(toy, tmp_path, checks):
    checks(broken=BROKEN)
    path = shutil.copyfile(toy, tmp_path / "older.atlas")
    assert "make the atlas again" in invoke("check", path).stderr
    with atlas.open(path, write=True) as store:
        store.set_meta("sql", "of an older version")
    says = invoke("check", path).stderr
    assert "`atlas link" in says
    assert "make the atlas again" not in says


def test_table(toy, checks):
    checks(holds=HOLDS)
    assert "Every feature has a SAE." in succeed("check", toy, "-f", "table")
