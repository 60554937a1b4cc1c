"""Every architecture, strategy and origin ends in the same tables, and can be run from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from click.testing import CliRunner

import atlas
from atlas.checks import run_checks
from atlas.cli import main
from atlas.errors import BadInput
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint, Sites
from atlas.ingest.plan import IngestOptions
from atlas.ingest.run import ingest, prepare
from atlas.ingest.text.contexts import batches, stream_contexts
from atlas.ingest.text.reference import of_atlas, stream
from atlas.ingest.training.architectures import ARCHITECTURES
from atlas.stored import load_weights

ITSELF = [name for name, one in ARCHITECTURES.items() if one.reads == "itself"]
OTHERS = [name for name in ARCHITECTURES if name not in ITSELF]


def options(folder: Path, **changes) -> IngestOptions:
    given = {
        "model": str(folder / "one"), "corpus": str(folder / "corpus.txt"), "width": "32",
        "k": "4", "train_tokens": "8k", "reference_tokens": "3k", "context": 16, "device": "cpu",
    }  # fmt: skip
    return IngestOptions(**given | changes)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a corpus, and an atlas of every architecture."""
    folder = tmp_path_factory.mktemp("architectures")
    tiny.make_corpus(folder)
    tiny.make_model(folder / "one")
    ingest(folder / "a.atlas", options(folder, arch=",".join(ITSELF), log=str(folder / "log")))
    ingest(folder / "a.atlas", options(folder, arch=",".join(OTHERS)))
    for strategy in ("layer-group=1", "feature-aligned", "end-to-end"):
        ingest(folder / "a.atlas", options(folder, strategy=strategy))
    return folder


def test_every_check_holds(place):
    with atlas.open(place / "a.atlas") as a:
        assert [r.name for r in run_checks(a) if not r.passed] == []


def test_every_architecture_is_there_with_its_quality(place):
    with atlas.open(place / "a.atlas") as a:
        found = dict(
            a.rows("select architecture, min(explained_variance) from sae_cards group by 1")
        )
        assert set(found) == set(ARCHITECTURES)
        assert all(value is not None for value in found.values())
        records = a.rows(
            "select sae_id, max(tokens) from training_records"
            " where metric = 'explained_variance' group by 1"
        )
        assert len(records) == a.row("select count(*) from saes")[0]
        assert all(tokens >= 8000 for _, tokens in records)
        assert a.rows("select 1 from sae_metrics where version is null") == []


def test_layers_of_a_group_share_an_sae(place):
    with atlas.open(place / "a.atlas") as a:
        found = a.rows("select name, sha256 from saes where variant = 'group1' order by layer")
    assert [name for name, _ in found] == ["one/0-resid_post-group1", "one/1-resid_post-group1"]
    assert len({sha256 for _, sha256 in found}) == 1


def test_the_course_of_the_training_was_logged(place):
    lines = (place / "log" / "one" / "0-resid_post-topk.ndjson").read_text().splitlines()
    assert json.loads(lines[-1])["tokens"] == 8000
    assert len(list((place / "log" / "one").glob("*.ndjson"))) == 2 * len(ITSELF)


def test_the_tables_give_back_every_sae(place):
    """Weights read from the tables encode the model's activations as they are stored."""
    model = LanguageModel.load(str(place / "one"), device="cpu")
    with atlas.open(place / "a.atlas") as a:
        tokens = stream(of_atlas(a), model.tokenizer)
        read = list(batches(stream_contexts(tokens, 16, model.bos_id), 512, model.pad_id))
        for sae_id, name, first, d_sae, scale in a.rows(
            "select sae_id, name, first_feature_id, d_sae, scale from saes"
        ):
            sites = {
                role: tuple(
                    HookPoint(layer, hook)
                    for layer, hook in a.rows(
                        "select layer, hook from sae_sites where sae_id = ? and role = ?"
                        " order by place",
                        [sae_id, role],
                    )
                )
                for role in ("input", "output")
            }
            placed = Sites(sites["input"], sites["output"])
            weights = load_weights(a, name)
            dense = np.zeros((len(tokens), d_sae), np.float32)
            for batch in read:
                found = dict(zip(placed.points, model.run(batch, placed.points), strict=True))
                dense[batch.token] = weights.encode(placed.gather(found)[0]).dense(d_sae)
            stored = np.zeros_like(dense)
            rows = a.sql(
                f"select token, feature_id - {first} as index, q from activations"
                f" where feature_id between {first} and {first + d_sae - 1}"
            ).fetchnumpy()
            stored[rows["token"], rows["index"]] = rows["q"] * scale
            assert (stored > 0).sum() > 0, name
            # Other batches change the last bits, and with them now and then who is among the top.
            wrong = np.abs(stored - dense) > 0.51 * scale + 1e-4 * dense.max()
            assert wrong.mean() < 1e-4, name


def test_a_round_trip_through_another_library_s_files(place):
    """Exported for SAELens, imported again: the same features, found beside the first ones."""
    exported = place / "exported"
    sae = "one/1-resid_post-topk"
    arguments = ["export", str(place / "a.atlas"), "--saelens", str(exported), "--sae", sae]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    (folder,) = {path.parent for path in exported.rglob("cfg.json")}
    outcome = ingest(place / "a.atlas", options(place, sae=str(folder), strict=True))
    assert outcome.saes == ("one/1-resid_post-saelens",)
    with atlas.open(place / "a.atlas") as a:
        assert a.row("select quality, train_tokens, held_out from saes where variant = 'saelens'")[
            0
        ] in ("conforms", "undeclared")
        same = a.rows(
            "select mine.index, near.feature from features as mine"
            " join saes using (sae_id), similar(mine.feature_id, k := 1, within := ?) as near"
            " where saes.name = ? and mine.alive",
            [outcome.saes[0], sae],
        )
        assert same
        # Two features may fire alike, and then either comes first.
        assert np.mean([near == f"{outcome.saes[0]}/{index}" for index, near in same]) > 0.95


def test_a_broken_import_is_flagged_and_with_strict_refused(place):
    from safetensors.torch import load_file, save_file

    broken = place / "broken"
    arguments = ["export", str(place / "a.atlas"), "--saelens", str(broken)]
    arguments += ["--sae", "one/0-resid_post-standard"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    (file,) = broken.rglob("sae_weights.safetensors")
    weights = load_file(file)
    weights["b_enc"] += 100  # everything is active
    save_file(weights, file)
    before = (place / "a.atlas").read_bytes()
    with pytest.raises(BadInput, match=r"Nothing was imported, as --strict was given.*L0 is"):
        ingest(place / "a.atlas", options(place, sae=str(broken), strict=True))
    assert (place / "a.atlas").read_bytes() == before
    ingest(place / "a.atlas", options(place, sae=str(broken), variant="broken"))
    with atlas.open(place / "a.atlas") as a:
        (quality,) = a.row("select quality from saes where variant = 'broken'")
        assert "L0 is" in quality


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sae": "nowhere"}, "nowhere"),
        ({"sae": "corpus"}, "recognised"),
        ({"arch": "standard", "strategy": "layer-group=2"}, "groups"),
        ({"layers": "0", "arch": "crosscoder"}, "two --layers"),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_is_written(place, changes, sentence):
    (place / "corpus").mkdir(exist_ok=True)
    (place / "corpus" / "notes.json").write_text("{}")
    if "sae" in changes:
        changes = changes | {"sae": str(place / changes["sae"])}
    with pytest.raises(BadInput, match=sentence):
        prepare(place / "a.atlas", options(place, **changes))
