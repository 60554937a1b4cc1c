"""Whatever is wrong with what a user gives: one sentence, exit code 1 or 2, the atlas unchanged."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path

import duckdb
import pytest
import tiny
from click.testing import CliRunner

from atlas.cli import main
from atlas.ingest.plan import IngestOptions
from atlas.ingest.run import ingest
from atlas.store import Atlas

SMALL = ["--width", "32", "--k", "4", "--train-tokens", "4k", "--reference-tokens", "2k",
         "--context", "16", "--device", "cpu"]  # fmt: skip


Spoil = Callable[["Place"], list[str]]


class Place:
    """A folder with a good model, a good corpus and a good atlas, to be spoilt by a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = folder / "model"
        self.corpus = folder / "corpus.txt"
        self.atlas = folder / "a.atlas"

    def config(self, **changes: object) -> None:
        path = self.model / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("good"))
    tiny.make_model(place.model)
    tiny.make_corpus(place.folder)
    ingest(
        place.atlas,
        IngestOptions(
            model=str(place.model), corpus=str(place.corpus), name="first", width="32", k="4",
            train_tokens="4k", reference_tokens="2k", context=16, device="cpu",
        ),
    )  # fmt: skip
    return place


@pytest.fixture
def place(good: Place, tmp_path: Path) -> Place:
    shutil.copytree(good.folder, tmp_path / "place")
    return Place(tmp_path / "place")


def _no_model(place: Place) -> list[str]:
    shutil.rmtree(place.model)
    return []


def _no_weights(place: Place) -> list[str]:
    (place.model / "model.safetensors").unlink()
    return []


def _cut_weights(place: Place) -> list[str]:
    path = place.model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    return []


def _nan_weights(place: Place) -> list[str]:
    from safetensors.torch import load_file, save_file

    path = place.model / "model.safetensors"
    weights = load_file(path)
    next(iter(weights.values()))[0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    return []


def _missing_layer(place: Place) -> list[str]:
    place.config(num_hidden_layers=3)
    return []


def _bad_config(place: Place) -> list[str]:
    (place.model / "config.json").write_text("{not json")
    return []


def _unknown_type(place: Place) -> list[str]:
    place.config(model_type="no-such-architecture")
    return []


def _no_tokenizer(place: Place) -> list[str]:
    for path in place.model.glob("tokenizer*"):
        path.unlink()
    return []


def _no_corpus(place: Place) -> list[str]:
    place.corpus.unlink()
    return []


def _empty_corpus(place: Place) -> list[str]:
    place.corpus.write_text(" \n\n<|endoftext|>\n ")
    return []


def _not_utf8(place: Place) -> list[str]:
    place.corpus.write_bytes("Grüße aus München. ".encode("latin-1") * 50)
    return []


def _bad_jsonl(place: Place) -> list[str]:
    path = place.folder / "corpus.jsonl"
    path.write_text('{"text": "good enough"}\n{"text": oops}\n')
    return ["--corpus", str(path)]


def _cut_gzip(place: Place) -> list[str]:
    path = place.folder / "corpus.jsonl.gz"
    rows = "".join(json.dumps({"text": tiny.make_text(50, i)}) + "\n" for i in range(30))
    path.write_bytes(gzip.compress(rows.encode())[:-100])
    return ["--corpus", str(path)]


def _corpus_without_text(place: Place) -> list[str]:
    path = place.folder / "corpus.jsonl"
    path.write_text('{"a": 1, "b": 2}\n')
    return ["--corpus", str(path)]


def _atlas_of_a_newer_version(place: Place) -> list[str]:
    with Atlas.open(place.atlas, write=True) as atlas:
        atlas.set_meta("format", "999")
    return []


def _not_an_atlas(place: Place) -> list[str]:
    place.atlas.write_text("not an atlas " * 500)
    return []


def _another_database(place: Place) -> list[str]:
    place.atlas.unlink()
    duckdb.connect(str(place.atlas)).close()
    return []


def _other_model_of_that_name(place: Place) -> list[str]:
    tiny.make_model(place.model, seed=7)
    return ["--name", "first", "--variant", "x"]


def _another_tokenizer(place: Place) -> list[str]:
    tiny.make_tokenizer(place.model, n_vocab=100)
    return ["--name", "first", "--variant", "x"]


def _changed_config(place: Place) -> list[str]:
    place.config(rms_norm_eps=0.1)
    return ["--name", "first"]


def _published(d: int = 16, n: int = 24, layer: int = 0, **changes: object) -> Spoil:
    """An SAE as SAELens writes it, spoilt by changes of its configuration."""

    def spoil(place: Place) -> list[str]:
        import torch
        from safetensors.torch import save_file

        folder = place.model / "sae"  # out of the way of what is looked for afterwards
        folder.mkdir()
        config = {
            "architecture": "standard", "d_in": d, "d_sae": n, "dtype": "float32",
            "apply_b_dec_to_input": True, "normalize_activations": "none",
            "metadata": {"hook_name": f"blocks.{layer}.hook_resid_post", "model_name": "first"},
        }  # fmt: skip
        (folder / "cfg.json").write_text(json.dumps(config | changes))
        g = torch.Generator().manual_seed(0)
        weights = {"W_enc": (d, n), "W_dec": (n, d), "b_enc": (n,), "b_dec": (d,)}
        tensors = {key: torch.randn(shape, generator=g) for key, shape in weights.items()}
        save_file(tensors, folder / "sae_weights.safetensors")
        return ["--sae", str(folder)]

    return spoil


def _cut_sae(place: Place) -> list[str]:
    options = _published()(place)
    path = place.model / "sae" / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return options


def _code_in_a_pickle(place: Place) -> list[str]:
    import torch

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(place.folder / "hacked").write_text, ("x",))

    folder = place.model / "trainer_0"
    folder.mkdir()
    torch.save({"encoder.weight": Evil()}, folder / "ae.pt")
    trainer = {"dict_class": "AutoEncoder", "activation_dim": 16, "dict_size": 24, "layer": 0,
               "submodule_name": "resid_post_layer_0"}  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
    return ["--sae", str(folder)]


def _nothing_published(place: Place) -> list[str]:
    return ["--sae", str(place.model)]


def _options(*options: str) -> Callable[[Place], list[str]]:
    return lambda place: list(options)


CASES: dict[str, tuple[Callable[[Place], list[str]], str]] = {
    "no model": (_no_model, "model"),
    "no weights": (_no_weights, "weight|model.safetensors"),
    "cut weights": (_cut_weights, "model"),
    "NaN weights": (_nan_weights, "NaN|nan"),
    "a layer missing": (_missing_layer, "layer|weight"),
    "corrupt config": (_bad_config, "config"),
    "unknown architecture": (_unknown_type, "no-such-architecture"),
    "no tokenizer": (_no_tokenizer, "token"),
    "no corpus": (_no_corpus, "corpus"),
    "empty corpus": (_empty_corpus, "no text"),
    "no UTF-8": (_not_utf8, "UTF-8"),
    "bad JSON line": (_bad_jsonl, "line 2|:2|#2"),
    "cut gzip": (_cut_gzip, "corpus.jsonl.gz"),
    "corpus without text": (_corpus_without_text, "'a', 'b'"),
    "newer atlas": (_atlas_of_a_newer_version, "upgrade"),
    "not an atlas": (_not_an_atlas, "not an atlas"),
    "another database": (_another_database, "not an atlas"),
    "name taken by another model": (_other_model_of_that_name, "--name"),
    "name taken with another tokenizer": (_another_tokenizer, "tokenizer .* --name"),
    "SAE there with another configuration": (_changed_config, "--variant"),
    "SAE there with other options": (_options("--name", "first", "--k", "5"), "--variant"),
    "layer out of range": (_options("--layers", "0,2"), "layers 0 to 1"),
    "layers backwards": (_options("--layers", "1-0"), "counts down"),
    "width 0": (_options("--width", "0"), "--width"),
    "k > width": (_options("--width", "8", "--k", "9"), "--k 9"),
    "k 0": (_options("--k", "0"), "--k"),
    "no number of tokens": (_options("--train-tokens", "lots"), "--train-tokens"),
    "context too long": (_options("--context", "100000"), "--context"),
    "unknown hook": (_options("--hook", "resid"), "hook"),
    "unknown architecture of SAEs": (_options("--arch", "dense"), "arch"),
    "an architecture twice": (_options("--arch", "topk,topk"), "--arch"),
    "a setting that nobody has": (_options("--set", "bandwith=1"), "bandwith"),
    "a setting out of range": (_options("--name", "new", "--set", "warmup=2"), "warmup"),
    "unknown strategy": (_options("--strategy", "magic"), "--strategy"),
    "a crosscoder of one layer": (_options("--arch", "crosscoder", "--layers", "0"), "--layers"),
    "two hooks for an SAE": (_options("--hook", "mlp_in:mlp_out"), "--hook"),
    "no log folder": (_options("--name", "new", "--log", "/dev/null/x"), "--log"),
    "no SAE there": (_nothing_published, "no dictionary that is recognised"),
    "no such path or repository": (_options("--sae", "./nowhere"), "nowhere"),
    "unknown format": (_options("--sae", ".", "--format", "zip"), "format 'zip'"),
    "SAE of another width": (_published(d=12), "vectors of 12"),
    "SAE of another depth": (_published(layer=7), "layer 7"),
    "SAE of unknown architecture": (_published(architecture="magic"), "magic"),
    "SAE with an unknown normalisation": (_published(normalize_activations="huge"), "huge"),
    "SAE with a wrong size": (_published(d_sae=25), "25|24"),
    "cut SAE": (_cut_sae, "sae_weights.safetensors"),
    "SAE that runs code": (_code_in_a_pickle, "ae.pt"),
    "SAE that does not fit": (
        lambda place: [*_published()(place), "--strict"],
        "--strict was given",
    ),
    "bad block path": (_options("--block-path", "no.such.blocks"), "--block-path"),
    "bad variant": (_options("--variant", "a b"), "variant"),
    "no such device": (_options("--device", "cuda:99"), "cuda"),
}


@pytest.mark.parametrize("case", CASES)
def test_ingest_tells_what_is_wrong_and_changes_nothing(case: str, place: Place) -> None:
    spoil, expected = CASES[case]
    options = spoil(place)
    before = place.atlas.read_bytes()
    arguments = ["ingest", str(place.atlas), str(place.model), "--corpus", str(place.corpus)]
    result = CliRunner().invoke(main, [*arguments, *SMALL, *options])
    _assert_told(result.exit_code, result.stdout, result.stderr, expected)
    assert place.atlas.read_bytes() == before
    left = {path.name for path in place.folder.iterdir()}
    assert left <= {"model", "corpus.txt", "a.atlas", "corpus.jsonl", "corpus.jsonl.gz"}


@pytest.mark.parametrize("case", ["no weights", "no UTF-8", "empty corpus", "width 0"])
def test_a_first_ingest_that_fails_leaves_no_atlas(case: str, place: Place) -> None:
    spoil, expected = CASES[case]
    options = spoil(place)
    new = place.folder / "new.atlas"
    arguments = ["ingest", str(new), str(place.model), "--corpus", str(place.corpus)]
    result = CliRunner().invoke(main, [*arguments, *SMALL, *options])
    _assert_told(result.exit_code, result.stdout, result.stderr, expected)
    assert not new.exists()


def test_a_write_protected_atlas_is_told_before_the_work(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may do all
    arguments = ["ingest", str(place.atlas), str(place.model), "--name", "new", "--dry-run"]
    result = CliRunner().invoke(main, [*arguments, *SMALL])
    _assert_told(result.exit_code, result.stdout, result.stderr, "write-protected")


def test_the_log_of_an_atlas_that_is_gone_is_told(place: Place) -> None:
    place.atlas.rename(place.folder / "a.atlas.wal")
    arguments = ["ingest", str(place.atlas), str(place.model), "--corpus", str(place.corpus)]
    result = CliRunner().invoke(main, [*arguments, *SMALL])
    _assert_told(result.exit_code, result.stdout, result.stderr, "a.atlas.wal")
    assert not place.atlas.exists()


def test_a_new_atlas_needs_a_corpus(place: Place) -> None:
    new = place.folder / "new.atlas"
    result = CliRunner().invoke(main, ["ingest", str(new), str(place.model), *SMALL])
    _assert_told(result.exit_code, result.stdout, result.stderr, "--corpus")
    assert not new.exists()


def test_an_atlas_in_use_is_told(place: Place) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfrom atlas.store import Atlas\n"
            "a = Atlas.open(sys.argv[1], write=True)\nprint('held', flush=True)\ninput()",
            str(place.atlas),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    arguments = ["ingest", str(place.atlas), str(place.model), "--corpus", str(place.corpus)]
    result = CliRunner().invoke(main, [*arguments, *SMALL, "--name", "second"])
    holder.kill()
    holder.wait()
    _assert_told(result.exit_code, result.stdout, result.stderr, f"process {holder.pid}.*--wait")


def test_a_full_disk_is_told_and_the_ingest_goes_on_when_there_is_room(place: Place) -> None:
    small = place.folder / "small"
    small.mkdir()
    python = [sys.executable, "-m", "atlas.cli"]
    ingest_it = [*python, "ingest", f"{small}/a.atlas", str(place.model), "--corpus",
                 str(place.corpus), *SMALL]  # fmt: skip
    command = " ".join(f"'{word}'" for word in ingest_it)
    script = f"""
        mount -t tmpfs -o size=1200k tmpfs '{small}' || exit 77
        {command} > '{place.folder}/first.out' 2> '{place.folder}/first.err'
        echo "exit $?"
        test ! -e '{small}/a.atlas' && echo "no atlas"
        mount -o remount,size=200m '{small}'
        {command} > /dev/null 2> '{place.folder}/second.err' && echo "went on"
        {" ".join(python)} check '{small}/a.atlas' > /dev/null && echo "sound"
    """
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", textwrap.dedent(script)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    if done.returncode == 77 or "unshare" in done.stderr or not done.stdout:
        pytest.skip(f"no private mounts here: {done.stderr.strip()}")
    first = (place.folder / "first.err").read_text()
    assert done.stdout.splitlines() == ["exit 1", "no atlas", "went on", "sound"], first
    _assert_told(1, "", first, "(?i)space")


def _assert_told(code: int, stdout: str, stderr: str, expected: str) -> None:
    import re

    assert code in (1, 2), stderr
    assert "Traceback" not in stderr
    assert "Unexpected" not in stderr
    told = [line for line in stderr.splitlines() if line.startswith("Error: ")]
    assert len(told) == 1, stderr
    assert told[0].endswith("."), told[0]
    assert re.search(expected, told[0]), told[0]
    assert stdout == ""


@pytest.mark.parametrize("seed", [0, 1])
def test_a_demo_of_another_version_is_told(
    seed: int, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made of a text that is another one now, or of models that are."""
    from atlas.ingest import demo

    monkeypatch.setattr(demo, "MODELS", ("first",))
    monkeypatch.setattr(demo, "models_folder", lambda: place.folder)
    monkeypatch.setattr(demo, "LAYERS", "1")
    monkeypatch.setattr(demo, "IngestOptions", partial(IngestOptions, context=16))
    tiny.make_model(place.folder / "first", seed=seed)
    before = place.atlas.read_bytes()
    result = CliRunner().invoke(main, ["demo", str(place.atlas)])
    _assert_told(result.exit_code, result.stdout, result.stderr, "demo .* delete it")
    assert place.atlas.read_bytes() == before
