"""What an ingest leaves in the atlas: sound, complete, and enough to run its SAEs again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner

import atlas
from atlas.checks import run_checks
from atlas.cli import main
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint
from atlas.ingest.plan import IngestOptions
from atlas.ingest.run import ingest, prepare
from atlas.ingest.text.contexts import batches, stream_contexts
from atlas.ingest.text.reference import of_atlas, stream
from atlas.sae import SaeWeights

SMALL = {
    "width": "32",
    "k": "4",
    "train_tokens": "6k",
    "reference_tokens": "3k",
    "context": 16,
    "device": "cpu",
}


def options(model: Path, corpus: Path | None, **changes: object) -> IngestOptions:
    return IngestOptions(
        model=str(model),
        corpus=corpus and str(corpus),
        **SMALL | changes,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ingest")
    tiny.make_corpus(folder)
    tiny.make_model(folder / "one")
    tiny.make_model(folder / "two", seed=1, n_layers=3)
    path, corpus = folder / "a.atlas", folder / "corpus.txt"
    assert ingest(path, options(folder / "one", corpus)).added
    assert ingest(path, options(folder / "two", None, layers="0,2", hook="mlp_out")).added
    assert ingest(path, options(folder / "one", corpus, layers="1", variant="k8", k="8")).added
    return folder


def test_every_check_holds(place: Path) -> None:
    with atlas.open(place / "a.atlas") as a:
        results = list(run_checks(a))
    assert [r.name for r in results if not r.passed] == []
    assert len(results) > 20


def test_names_and_shapes(place: Path) -> None:
    with atlas.open(place / "a.atlas") as a:
        assert a.rows("select sae, d_in, d_sae, k, layer, hook from sae_cards order by sae_id") == [
            ("one/0-resid_post", 16, 32, 4, 0, "resid_post"),
            ("one/1-resid_post", 16, 32, 4, 1, "resid_post"),
            ("two/0-mlp_out", 16, 32, 4, 0, "mlp_out"),
            ("two/2-mlp_out", 16, 32, 4, 2, "mlp_out"),
            ("one/1-resid_post-k8", 16, 32, 8, 1, "resid_post"),
        ]
        assert a.rows("select count(*), count(distinct tokenizer_id) from models") == [(2, 1)]
        assert a.rows(
            "select command, count(*) from runs where status = 'done' group by command order by all"
        ) == [("communities", 2), ("ingest", 3), ("link", 2)]


def test_neighbouring_layers_are_linked(place: Path) -> None:
    with atlas.open(place / "a.atlas") as a:
        linked = a.rows(
            "select a.name, b.name, over from links join saes a on a.sae_id = sae_a"
            " join saes b on b.sae_id = sae_b order by all"
        )
    assert linked == [
        ("one/0-resid_post", "one/1-resid_post", "tokens"),
        ("two/0-mlp_out", "two/2-mlp_out", "tokens"),
    ]


def test_training_leaves_the_reference_out_where_there_is_more_text(place: Path) -> None:
    with atlas.open(place / "a.atlas") as a:
        held_out = dict(a.rows("select sae, held_out from sae_cards"))
    assert held_out["one/0-resid_post"]
    assert not held_out["two/0-mlp_out"]  # trained on the reference corpus itself


@pytest.mark.parametrize("sae", ["one/1-resid_post", "two/2-mlp_out", "one/1-resid_post-k8"])
def test_a_stored_sae_gives_the_stored_activations(place: Path, sae: str) -> None:
    with atlas.open(place / "a.atlas") as a:
        row = a.sql("from saes where name = ?", [sae]).to_arrow_table().to_pylist()[0]
        last = row["first_feature_id"] + row["d_sae"] - 1
        between = f"where feature_id between {row['first_feature_id']} and {last}"
        vectors = a.sql(f"from vectors {between} order by feature_id").to_arrow_table()
        stored = a.rows(
            f"select token - first_token, feature_id - {row['first_feature_id']}, q"
            f" from activations, tokenizers {between} order by 1, 2"
        )
        reference = of_atlas(a)
    assert reference is not None
    weights = SaeWeights(
        architecture=row["architecture"],
        activation="topk",
        k=row["k"],
        W_enc=torch.tensor(vectors["encoder"].to_pylist()).T.contiguous(),
        b_enc=torch.tensor(vectors["encoder_bias"].to_pylist()),
        W_dec=torch.tensor(vectors["decoder"].to_pylist()),
        b_dec=torch.tensor(row["b_dec"]),
        pre_bias=torch.tensor(row["pre_bias"]),
        input_scale=row["input_scale"],
        output_scale=row["input_scale"],
    )
    model = LanguageModel.load(str(place / sae.split("/")[0]), device="cpu")
    tokens = stream(reference, model.tokenizer)
    dense = np.zeros((len(tokens), row["d_sae"]))
    contexts = stream_contexts(tokens, row["context"], model.bos_id)
    for batch in batches(contexts, 512, model.pad_id):
        (x,) = model.run(batch, [HookPoint(row["layer"], row["hook"])])
        dense[batch.token] = weights.encode(x).dense(row["d_sae"]).numpy()
    found = np.zeros_like(dense)
    for token, feature, q in stored:
        found[token, feature] = q * row["scale"]
    assert len(stored) > 1000
    # Rounding to the scale, and float32 sums in other batches.
    assert np.abs(found - dense).max() <= row["scale"] * 0.51 + 1e-4


def test_given_again_nothing_happens(place: Path) -> None:
    path = place / "a.atlas"
    before = path.read_bytes()
    outcome = ingest(path, options(place / "one", place / "corpus.txt"))
    assert not outcome.added
    assert outcome.saes == ("one/0-resid_post", "one/1-resid_post")
    assert path.read_bytes() == before
    assert not path.with_name("a.atlas.work").exists()


def test_a_dry_run_shows_the_plan_and_leaves_nothing(place: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.atlas"
    result = CliRunner().invoke(
        main,
        ["ingest", str(new), str(place / "one"), "--corpus", str(place / "corpus.txt"),
         "--width", "4x", "--layers", "1", "--k", "3", "--context", "16", "--dry-run"],
    )  # fmt: skip
    assert result.exit_code == 0
    assert "one/1-resid_post" in result.stdout
    assert "d_sae 64, k 3" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_the_saes_names(place: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "texts"
    corpus.mkdir()
    (corpus / "a.jsonl").write_text(
        "".join(json.dumps({"story": tiny.make_text(100, i)}) + "\n" for i in range(40))
    )
    arguments = ["ingest", str(tmp_path / "b.atlas"), str(place / "one"), "--corpus", str(corpus),
                 "--layers", "0", "--name", "lab/one", "--width", "32", "--k", "4",
                 "--train-tokens", "3k", "--reference-tokens", "2k", "--context", "16",
                 "--licence", "CC0-1.0"]  # fmt: skip
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "lab/one/0-resid_post\n"
    with atlas.open(tmp_path / "b.atlas") as a:
        corpora = a.rows("select name, source, licence from corpora")
        assert corpora == [("texts", str(corpus), "CC0-1.0")]
        assert a.feature("lab/one/0-resid_post/0").model == "lab/one"


def test_an_atlas_that_appears_meanwhile_is_added_to(place: Path, tmp_path: Path) -> None:
    """Two first ingests of one atlas: the second to finish joins the first one's file."""
    from atlas.ingest import run

    path, corpus = tmp_path / "c.atlas", place / "corpus.txt"
    late = prepare(path, options(place / "two", corpus, layers="0"))
    ingest(path, options(place / "one", corpus, layers="0"))
    with run.workspace(path, "late") as work:
        done = run._run(late, work, run.now(), run.Silent())
        with run.Silent().task("", None, "") as task:
            run.commit(path, done, work.path("new.atlas"), task, wait=0)
    with atlas.open(path) as a:
        assert a.rows("select name from saes order by sae_id") == [
            ("one/0-resid_post",),
            ("two/0-resid_post",),
        ]
        assert all(result.passed for result in run_checks(a))


def test_an_atlas_given_another_corpus_meanwhile_refuses(place: Path, tmp_path: Path) -> None:
    from atlas.errors import BadInput
    from atlas.ingest import run

    path = tmp_path / "c.atlas"
    late = prepare(path, options(place / "two", place / "corpus.txt", layers="0"))
    other = tmp_path / "other.txt"
    other.write_text(tiny.make_text(6000, 99))
    ingest(path, options(place / "one", other, layers="0"))
    before = path.read_bytes()
    with run.workspace(path, "late") as work:
        done = run._run(late, work, run.now(), run.Silent())
        with (
            pytest.raises(BadInput, match="another reference corpus"),
            run.Silent().task("", None, "") as task,
        ):
            run.commit(path, done, work.path("new.atlas"), task, wait=0)
    with atlas.open(path) as a:
        assert a.rows("select name from saes") == [("one/0-resid_post",)]
    assert len(path.read_bytes()) >= len(before)


def test_the_stamp_tells_atlases_apart_that_one_plan_made(place: Path, tmp_path: Path) -> None:
    """Otherwise the cache of an atlas that was deleted would answer for the one made anew."""
    asked = {"layers": "0", "train_tokens": "2k"}
    stamps = []
    for size in ("1k", "2k", "1k"):
        path = tmp_path / f"{len(stamps)}.atlas"
        ingest(path, options(place / "one", place / "corpus.txt", reference_tokens=size, **asked))
        with atlas.open(path) as a:
            stamps.append(a.stamp)
    assert stamps[0] == stamps[2] != stamps[1]


def test_work_of_other_circumstances_is_tidied_up(place: Path, tmp_path: Path) -> None:
    """Such as that of an ingest which met another reference corpus when it was done."""
    from atlas.ingest.workspace import work_root, workspace

    path, asked = tmp_path / "c.atlas", options(place / "one", place / "corpus.txt", layers="0")
    with workspace(path, "stale") as work:
        work.finish("begun", at="now", plan=prepare(path, asked).plan.sha256)
    ingest(path, asked)
    assert not work_root(path).exists()
