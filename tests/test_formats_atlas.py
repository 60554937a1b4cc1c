"""Another atlas as the source of SAEs: exact copies on the same text, the same on more of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest
import tiny
import torch
from commandline import ROOT, environment, succeed

import atlas
from atlas import scripts
from atlas.checks import run_checks
from atlas.errors import AtlasLocked, BadInput, NotAnAtlas
from atlas.ingest.importing import formats
from atlas.ingest.importing.formats import read_dictionaries
from atlas.ingest.importing.formats.found import Format
from atlas.ingest.plan import IngestOptions
from atlas.ingest.run import ingest, prepare
from atlas.sae import SaeWeights
from atlas.store import Atlas
from atlas.stored import load_weights

SMALL: dict[str, Any] = {
    "width": "32", "k": "4", "train_tokens": "2k", "reference_tokens": "2k", "context": 16,
    "device": "cpu",
}  # fmt: skip
TOPK = "one/1-resid_post-topk"
CROSSCODER = "one/0-resid_post-crosscoder-0to1"
OF_ONE = [
    CROSSCODER,
    "one/1-mlp_out-skip-transcoder",
    "one/1-resid_post-gated",
    "one/1-resid_post-jumprelu",
    "one/1-resid_post-switch",
    TOPK,
]


def options(place: Path, model: str = "one", **changes: Any) -> IngestOptions:
    given = {"model": str(place / model), "corpus": str(place / "corpus.txt")} | SMALL
    return IngestOptions(**given | changes)


def copying(place: Path, model: str = "one", **changes: Any) -> IngestOptions:
    return options(place, model, **{"sae": str(place / "small.atlas")} | changes)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models, a text, and an atlas of SAEs of every kind that its tables know."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("source")
    tiny.make_corpus(folder, n_documents=40)
    tiny.make_model(folder / "one")
    tiny.make_model(folder / "two", seed=1, d_model=24)
    path = folder / "small.atlas"
    ingest(path, options(folder, "two", layers="0"))
    ingest(path, options(folder, layers="1", arch="topk,jumprelu,gated,switch,skip-transcoder"))
    ingest(path, options(folder, arch="crosscoder"))
    ingest(path, options(folder, layers="1", randomize="shuffle"))
    path.chmod(0o444)
    return folder


@pytest.fixture(scope="module")
def copied(place: Path) -> Path:
    """An atlas with the same SAEs of one model, and the same text."""
    path = place / "copied.atlas"
    ingest(path, copying(place, strict=True))
    return path


# Tables that say something of an SAE, with what they call it by in place of this atlas's numbers.
OF_SAE = {
    "saes": "exclude (sae_id, model_id, first_feature_id, source, quality, conventions, run_id)",
    "sae_metrics": "exclude (sae_id, run_id)",
    "sae_sites": "exclude (sae_id, model_id)",
    "sae_tensors": "exclude (sae_id)",
    "training_records": "exclude (sae_id)",
    "probes": "exclude (sae_id)",
    "absorptions": "exclude (sae_id)",
    "features": "exclude (sae_id, feature_id)",
}
OF_FEATURE = {
    "vectors": ("", ""),
    "activations": (", token", ", token - tokenizers.first_token"),
    "examples": (
        ", token, first_token, last_token",
        ", examples.token - tokenizers.first_token, last_token - examples.first_token",
    ),
    "token_effects": ("", ""),
    "token_stats": ("", ""),
    "word_stats": ("", ""),
    "labels": (", run_id", ""),
}


def rows_of(path: Path, sae: str) -> dict[str, list[tuple[Any, ...]]]:
    """Table → its rows of an SAE, without the numbers that an atlas gives."""
    with Atlas.open(path) as a:
        found = {
            table: a.rows(
                f"select {table}.* {columns} from {table} join (select sae_id from saes"
                " where saes.name = ?) using (sae_id) order by all",
                [sae],
            )
            for table, columns in OF_SAE.items()
        }
        for table, (excluded, added) in OF_FEATURE.items():
            found[table] = a.rows(
                f"select feature_id - saes.first_feature_id {added},"
                f" {table}.* exclude (feature_id{excluded})"
                f" from {table}, saes join models using (model_id) join tokenizers"
                " using (tokenizer_id) where saes.name = ? and feature_id"
                " between first_feature_id and first_feature_id + d_sae - 1 order by all",
                [sae],
            )
    return {table: [tuple(map(repr, row)) for row in rows] for table, rows in found.items()}


def assert_equal(one: dict[str, list[Any]], other: dict[str, list[Any]], *but: str) -> None:
    for table in one.keys() - set(but):
        assert len(one[table]) == len(other[table]), table
        for mine, theirs in zip(one[table], other[table], strict=True):
            assert mine == theirs, table


@pytest.mark.parametrize("sae", OF_ONE)
def test_on_the_same_text_everything_is_equal(place: Path, copied: Path, sae: str) -> None:
    before = rows_of(place / "small.atlas", sae)
    assert_equal(before, rows_of(copied, sae))
    assert all(before[table] for table in ("activations", "examples", "training_records"))


def test_a_copy_is_sound_and_says_what_it_is_of(place: Path, copied: Path) -> None:
    with atlas.open(copied) as a:
        assert [one.name for one in run_checks(a) if not one.passed] == []
        assert a.rows("select name from saes order by name") == [(name,) for name in OF_ONE]
        assert a.rows("select distinct quality, held_out, train_tokens from saes") == [
            ("conforms", True, 2000)
        ]
        sources = a.rows("select source from saes order by name")
        assert sources == [(f"{place}/small.atlas/{name}",) for name in OF_ONE]
        declared = a.rows(
            "select metric from declared_metrics join sae_metrics using (sae_id, metric)"
            " where declared_metrics.value = sae_metrics.value and sae_id = sae_id(?)"
            " order by metric",
            [TOPK],
        )
        assert {"l0", "explained_variance", "ce_recovered"} <= {name for (name,) in declared}


def test_given_again_or_from_a_copy_of_the_source_there_is_nothing_to_do(
    place: Path, copied: Path, tmp_path: Path
) -> None:
    moved = shutil.copy(place / "small.atlas", tmp_path / "moved")
    for source in (place / "small.atlas", moved):
        assert prepare(copied, copying(place, sae=str(source))).done
    with pytest.raises(BadInput, match=r"has one/1-.* already, .*--variant"):
        prepare(copied, copying(place, layers="1"))


@pytest.fixture
def as_file(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Options that import an SAE of the source from a file, of which nothing else is known."""
    every = read_dictionaries(str(place / "small.atlas"))
    (here,) = (one for one in every if one.place == CROSSCODER)
    path = tmp_path / "weights.safetensors"
    here.load().save(path)
    load = partial(SaeWeights.load, path)
    found = replace(here, format="plain", origin=None, load=load)

    def detect(source):
        return [found] if source.name == str(path) else []

    monkeypatch.setitem(formats.FORMATS, "plain", Format("plain", "", "", detect))
    return {"sae": str(path), "format": "plain", "variant": "crosscoder-0to1"}


def test_more_text_gives_what_the_same_weights_from_a_file_give(
    place: Path, tmp_path: Path, as_file: dict[str, str]
) -> None:
    path, other = tmp_path / "bigger.atlas", tmp_path / "other.atlas"
    more = {"reference_tokens": "4k", "layers": "0"}
    ingest(path, copying(place, **more))
    with Atlas.open(place / "small.atlas") as a:
        first = a.rows("select text from documents order by document_id")
    with Atlas.open(path) as a:
        documents = a.rows("select text from documents order by document_id")
        assert (documents[: len(first)], len(documents) > len(first)) == (first, True)
        assert a.rows("select held_out, quality from saes") == [(None, "conforms")]
    ingest(other, copying(place, **more | as_file))
    one, same = rows_of(path, CROSSCODER), rows_of(other, CROSSCODER)
    assert_equal(one, same, "saes", "training_records")  # what a file does not say is in these


def test_names_are_those_of_the_source_unless_others_are_given(place: Path, tmp_path: Path) -> None:
    def names(*models: str, **changes: Any) -> list[str]:
        plan = prepare(tmp_path / "new.atlas", copying(place, *models, **changes)).plan
        return [str(sae.name) for sae in plan.saes]

    assert names() == OF_ONE
    assert names("two", name="b") == ["b/0-resid_post"]
    assert names("two", variant="again") == ["two/0-resid_post-again"]
    assert names(variant="again", layers="1") == [
        "one/1-mlp_out-again",
        *(f"one/1-resid_post-again-{own}" for own in ("gated", "jumprelu", "switch", "topk")),
    ]
    # A random model's SAEs are its own.
    assert names(randomize="shuffle") == ["one-shuffled/1-resid_post"]


def test_a_model_without_saes_there_is_told_which_have_some(place: Path, tmp_path: Path) -> None:
    tiny.make_model(tmp_path / "three", seed=3)
    asked = copying(place, model=str(tmp_path / "three"))
    with pytest.raises(BadInput, match=r"holds no SAE of .*three, but of one, one-shuffled, two"):
        prepare(tmp_path / "new.atlas", asked)
    with pytest.raises(BadInput, match="holds no SAE of"):
        prepare(tmp_path / "new.atlas", copying(place, randomize="shuffle=1"))


def test_only_an_atlas_knows_a_random_model(
    place: Path, tmp_path: Path, as_file: dict[str, str]
) -> None:
    for changes in (as_file, {"sae": "owner/repository"}):
        with pytest.raises(BadInput, match=r"--randomize .*leave it out, or --sae\."):
            prepare(tmp_path / "new.atlas", copying(place, randomize="shuffle", **changes))


def test_an_atlas_is_no_source_of_itself(place: Path, copied: Path) -> None:
    other = place / "other name"
    other.symlink_to(copied)
    with pytest.raises(BadInput, match="is the atlas that is to be written"):
        prepare(copied, copying(place, sae=str(other)))


def test_what_is_no_atlas_is_told(place: Path, tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "plain")) as plain:
        plain.execute("create table meta (key varchar)")
    with pytest.raises(NotAnAtlas, match="DuckDB database but not an atlas"):
        prepare(tmp_path / "new.atlas", copying(place, sae=str(tmp_path / "plain")))
    Atlas.create(tmp_path / "empty").close()
    with pytest.raises(BadInput, match="an atlas without SAEs"):
        read_dictionaries(str(tmp_path / "empty"))
    with pytest.raises(BadInput, match=r"corpus\.txt, but none of atlas: the file of an atlas"):
        read_dictionaries(str(place / "corpus.txt"), "atlas")
    with pytest.raises(BadInput, match="none of"):  # a folder is not searched for one
        read_dictionaries(str(tmp_path), "atlas")


HOLDER = """
import sys, time
from atlas.store import Atlas
with Atlas.open(sys.argv[1], write=True):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def test_a_locked_source_is_told_or_waited_for(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "locked.atlas"
    shutil.copyfile(place / "small.atlas", path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), "1"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(AtlasLocked, match=f"being written by another process .*{holder.pid}"):
            read_dictionaries(str(path))
        assert len(read_dictionaries(str(path), wait=60)) == len(OF_ONE) + 2
    finally:
        holder.kill()
        holder.communicate()


def changed(place: Path, path: Path, *statements: str) -> Path:
    """A copy of the source in which something was done."""
    shutil.copyfile(place / "small.atlas", path)
    with Atlas.open(path, write=True) as a:
        for statement in statements:
            a.execute(statement)
    return path


def test_older_atlases_are_read_as_they_are(place: Path, tmp_path: Path) -> None:
    path = changed(
        place,
        tmp_path / "old.atlas",
        "alter table models drop column randomized",
        *(f"drop table {name}" for name in ("links", "comparisons", "categories")),
        "update meta set value = '2' where key = 'format'",
        "update meta set value = 'of an older version' where key = 'sql'",
    )
    before = path.read_bytes()
    found = {one.place: one for one in read_dictionaries(str(path))}
    with Atlas.open(place / "small.atlas") as a:
        for name in OF_ONE:
            assert found[name].load().sha256() == load_weights(a, name).sha256()
    assert path.read_bytes() == before
    assert not path.with_name("old.atlas.wal").exists()
    with duckdb.connect(str(tmp_path / "first.atlas")) as first:
        first.execute(scripts.schema_files()[0][1].read_text())
        first.execute("insert into meta values ('format', '1')")
    with pytest.raises(BadInput, match=r"has format 1, .* up to date with `atlas link`"):
        read_dictionaries(str(tmp_path / "first.atlas"))


def test_a_crosscoder_of_several_models_is_left_out(place: Path, tmp_path: Path) -> None:
    path = changed(
        place,
        tmp_path / "joint.atlas",
        "update sae_sites set model_id = 0 where place = 1",  # whose model is 'two'
    )
    prepared = prepare(tmp_path / "new.atlas", copying(place, sae=str(path)))
    assert [str(sae.name) for sae in prepared.plan.saes] == OF_ONE[1:]
    assert prepared.left_out == (CROSSCODER,)
    assert prepared.summary()["left out"] == f"{CROSSCODER} (read other models, too)"
    with pytest.raises(BadInput, match=f"has only {CROSSCODER} here"):
        prepare(tmp_path / "new.atlas", copying(place, sae=str(path), layers="0"))


def test_what_deviates_for_the_text_is_told_so_and_what_was_flagged_stays(
    place: Path, tmp_path: Path
) -> None:
    read = "as read, explained variance is 0.1: it belongs to layer 0; give --layers 0."
    source = changed(
        place,
        tmp_path / "source.atlas",
        "update sae_metrics set value = value + 0.5 where metric = 'explained_variance'"
        " and sae_id = sae_id('one/1-resid_post-switch')",
        f"update saes set quality = '{read}', conventions = '{{\"format\": \"saelens\"}}'"
        f" where name = '{TOPK}'",
    )
    path = tmp_path / "new.atlas"
    ingest(path, copying(place, sae=str(source), layers="1"))
    with Atlas.open(path) as a:
        told = dict(a.rows("select name, quality from saes"))
        published = json.loads(a.rows("select conventions from saes where name = ?", [TOPK])[0][0])
    deviating = told.pop("one/1-resid_post-switch")
    assert "declared), with weights, model and hook points as in" in deviating
    assert "another kind of text" in deviating
    assert told.pop(TOPK) == read
    assert set(told.values()) == {"conforms"}
    assert published["published"]["conventions"] == {"format": "saelens"}
    again = {one.place: one.origin.flagged for one in read_dictionaries(str(path)) if one.origin}
    assert again == dict.fromkeys(again) | {TOPK: read}
    with pytest.raises(BadInput, match=r"as --strict was given\..*belongs to layer 0"):
        ingest(tmp_path / "strict.atlas", copying(place, sae=str(source), strict=True))


def test_the_command(place: Path, tmp_path: Path) -> None:
    (tmp_path / "small").symlink_to(place / "small.atlas")
    shown = succeed(
        "ingest", tmp_path / "new.atlas", place / "one", "--sae", tmp_path / "small",
        "--corpus", place / "corpus.txt", "--reference-tokens", "6k", "--context", "16",
        "--dry-run",
    )  # fmt: skip
    assert "one/0-resid_post-crosscoder-0to1 (crosscoder" in shown
    assert "first 6,000 tokens" in shown
    assert "another atlas" in succeed("ingest", "--format", "list")
