"""Models of random weights: the same again, never taken for the real one, ingested as others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner
from contents import assert_same, contents
from families import save

import atlas
from atlas.checks import run_checks
from atlas.cli import main
from atlas.errors import BadInput
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.randomize import Randomization, parse_randomization
from atlas.ingest.plan import IngestOptions, check_options
from atlas.ingest.run import MadeOtherwise, ingest, prepare

SHUFFLE, INIT = Randomization("shuffle"), Randomization("init")


def weights(folder: Path, randomized: Randomization | None = None) -> dict[str, torch.Tensor]:
    model = LanguageModel.load(folder, device="cpu", randomized=randomized).model
    return {name: weight.detach() for name, weight in model.named_parameters()}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == two.keys()
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama whose every tensor, gains of norms too, is unlike a fresh one's; tied embeddings."""
    folder = tmp_path_factory.mktemp("randomize") / "llama"
    save("llama", folder, tie_word_embeddings=True)
    model = LanguageModel.load(folder, device="cpu").model
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.rand(weight.shape, generator=generator))
    model.save_pretrained(folder)
    return folder


def test_shuffled_tensors_hold_the_same_entries_elsewhere(trained: Path) -> None:
    before, after = weights(trained), weights(trained, SHUFFLE)
    assert before.keys() == after.keys()
    for name, weight in before.items():
        assert after[name].shape == weight.shape
        assert torch.equal(after[name].flatten().sort()[0], weight.flatten().sort()[0])
        assert not torch.equal(after[name], weight), name


def test_drawn_weights_are_those_of_a_new_model(trained: Path) -> None:
    after = weights(trained, INIT)
    assert torch.equal(after["model.norm.weight"], torch.ones(16))
    embeddings = after["model.embed_tokens.weight"]
    assert abs(float(embeddings.mean())) < 0.01
    assert float(embeddings.std()) == pytest.approx(0.02, rel=0.2)  # Llama's initializer_range
    assert not same(weights(trained), after)


@pytest.mark.parametrize("kind", ["shuffle", "init"])
def test_each_draw_is_a_model_of_its_own_and_the_same_again(trained: Path, kind: str) -> None:
    torch.manual_seed(9)
    before = torch.random.get_rng_state()
    first, again = weights(trained, Randomization(kind)), weights(trained, Randomization(kind))
    assert same(first, again)
    assert not same(first, weights(trained, Randomization(kind, 1)))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_file_stays_as_it_is(trained: Path) -> None:
    before = (trained / "model.safetensors").read_bytes()
    weights(trained, SHUFFLE)
    assert (trained / "model.safetensors").read_bytes() == before


def test_the_hash_tells_them_apart(trained: Path) -> None:
    def sha256(randomized: Randomization | None) -> str:
        return LanguageModel.load(trained, device="cpu", randomized=randomized).sha256

    kinds = [None, SHUFFLE, INIT, Randomization("shuffle", 1), Randomization("init", 1)]
    assert len({sha256(kind) for kind in kinds}) == len(kinds)
    assert sha256(SHUFFLE) == sha256(SHUFFLE)


@pytest.mark.parametrize("randomized", [SHUFFLE, INIT], ids=str)
def test_tied_embeddings_stay_tied(trained: Path, randomized: Randomization) -> None:
    model: Any = LanguageModel.load(trained, device="cpu", randomized=randomized).model
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "bert", "gemma2", "mixtral"])
@pytest.mark.parametrize("randomized", [SHUFFLE, INIT], ids=str)
def test_every_family(family: str, randomized: Randomization, tmp_path: Path) -> None:
    model = LanguageModel.load(save(family, tmp_path / "m"), device="cpu", randomized=randomized)
    plain = LanguageModel.load(tmp_path / "m", device="cpu")
    assert type(model.model) is type(plain.model)
    assert (model.n_parameters, model.block_path) == (plain.n_parameters, plain.block_path)
    assert model.config_sha256() == plain.config_sha256()
    assert not model.model.training
    assert not any(weight.requires_grad for weight in model.model.parameters())
    ids = np.arange(4, 12)[None]
    buffers = dict(plain.model.named_buffers())
    for name, buffer in model.model.named_buffers():
        assert torch.equal(buffer, buffers[name]), name
    hidden = model.model(torch.from_numpy(ids), output_hidden_states=True).hidden_states
    assert all(torch.isfinite(layer).all() for layer in hidden)


def test_names() -> None:
    assert SHUFFLE.name("gpt2") == "gpt2-shuffled"
    assert Randomization("init", 3).name("gpt2") == "gpt2-random-3"
    for text in ("shuffle", "init=4"):
        parsed = parse_randomization(text)
        assert parsed is not None
        assert parse_randomization(str(parsed)) == parsed
    assert parse_randomization("shuffle") == parse_randomization("shuffle=0")


@pytest.mark.parametrize(
    "text", ["", "noise", "shuffle=", "shuffle=-1", "init=1.5", "shuffle,init"]
)
def test_what_is_no_randomisation_is_told(text: str) -> None:
    with pytest.raises(BadInput, match=r"--randomize .* is none of shuffle, init"):
        check_options(IngestOptions(model="m", randomize=text))


def test_published_saes_are_of_the_model_as_it_is() -> None:
    with pytest.raises(BadInput, match=r"leave it out, or --sae\.$"):
        check_options(IngestOptions(model="m", sae="there", randomize="shuffle"))


SMALL = {
    "width": "32",
    "k": "4",
    "train_tokens": "6k",
    "reference_tokens": "3k",
    "context": 16,
    "layers": "1",
    "device": "cpu",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of a model, with two seeds, and of the model shuffled, with two seeds."""
    folder = tmp_path_factory.mktemp("floor")
    tiny.make_corpus(folder)
    tiny.make_model(folder / "one")
    for changes in (
        {},
        {"seed": 1, "variant": "seed1"},
        {"randomize": "shuffle"},
        {"randomize": "shuffle", "seed": 1, "variant": "seed1"},
        {"randomize": "init=2"},
    ):
        assert ingest(folder / "a.atlas", options(folder, **changes)).added
    return folder


def options(folder: Path, **changes: object) -> IngestOptions:
    given = SMALL | {"model": str(folder / "one"), "corpus": str(folder / "corpus.txt")} | changes
    return IngestOptions(**given)  # type: ignore[arg-type]


def test_models_and_saes_of_the_atlas(place: Path) -> None:
    with atlas.open(place / "a.atlas") as a:
        assert a.rows("select model, randomized, source, n_saes from model_cards order by all") == [
            ("one", None, str(place / "one"), 2),
            ("one-random-2", "init=2", str(place / "one"), 1),
            ("one-shuffled", "shuffle=0", str(place / "one"), 2),
        ]
        assert a.rows("select count(distinct sha256) from models") == [(3,)]
        assert a.rows("select count(*) from tokenizers") == [(1,)]
        assert a.rows("select name from saes order by name") == [
            ("one-random-2/1-resid_post",),
            ("one-shuffled/1-resid_post",),
            ("one-shuffled/1-resid_post-seed1",),
            ("one/1-resid_post",),
            ("one/1-resid_post-seed1",),
        ]
        assert a.rows("select count(distinct sha256) from saes") == [(5,)]
        assert [check.name for check in run_checks(a) if not check.passed] == []


def test_given_again_nothing_happens(place: Path) -> None:
    assert not ingest(place / "a.atlas", options(place, randomize="shuffle=0")).added
    assert not ingest(place / "a.atlas", options(place)).added


@pytest.mark.parametrize(
    "changes",
    [
        {"randomize": "shuffle", "name": "one"},
        {"name": "one-shuffled"},
        {"randomize": "shuffle=1", "name": "one-shuffled"},
    ],
    ids=str,
)
def test_one_is_not_taken_for_the_other(place: Path, changes: dict[str, str]) -> None:
    with pytest.raises(MadeOtherwise, match="has another model named"):
        prepare(place / "a.atlas", options(place, **changes))


def test_begun_again_it_goes_on(place: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Stopped behind its training; the model's hash has to lead to the same work folder."""
    from atlas.ingest import run

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    given = options(place, randomize="shuffle")
    with monkeypatch.context() as patched:
        patched.setattr(run, "encode_reference", stop)
        with pytest.raises(KeyboardInterrupt):
            ingest(tmp_path / "b.atlas", given)
    state = prepare(tmp_path / "b.atlas", given).summary()["state"]
    assert state == "begun, would be gone on with"
    assert prepare(tmp_path / "b.atlas", options(place)).summary()["state"] == "not begun"
    with monkeypatch.context() as patched:
        patched.setattr("atlas.ingest.making.train_saes", stop)
        assert ingest(tmp_path / "b.atlas", given).added
    assert ingest(tmp_path / "c.atlas", given).added
    assert_same(contents(tmp_path / "b.atlas"), contents(tmp_path / "c.atlas"))


def test_a_dry_run_says_so(place: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main,
        ["ingest", str(tmp_path / "new.atlas"), str(place / "one"), "--randomize", "init=1",
         "--corpus", str(place / "corpus.txt"), "--context", "16", "--dry-run"],
    )  # fmt: skip
    assert result.exit_code == 0
    assert "one-random-1 (llama, " in result.stdout
    assert "weights randomised: init=1)" in result.stdout


def test_a_crosscoder_reads_the_random_model_again(place: Path) -> None:
    crosscoder = options(place, arch="crosscoder", partners=("one-shuffled@1",))
    (partner,) = prepare(place / "a.atlas", crosscoder).partners
    assert partner.randomized == SHUFFLE
    assert same(dict(partner.model.named_parameters()), weights(place / "one", SHUFFLE))
