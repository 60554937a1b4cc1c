"""Training from a language model's activations: resume to the bit, bounds, told errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tiny import make_model, make_text

from atlas.errors import BadInput
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint, Sites
from atlas.ingest.text.contexts import ContextStream, batches
from atlas.ingest.text.corpus import Document
from atlas.ingest.training.state import Spec
from atlas.ingest.training.train import train_saes
from atlas.ingest.training.trainee import TrainConfig
from atlas.progress import Silent
from atlas.sae import read_tensors

POINTS = (HookPoint(0, "resid_post"), HookPoint(1, "mlp_out"), HookPoint(1, "resid_post"))
CONFIG = TrainConfig(
    d_sae=48, k=4, train_tokens=9_000, seed=3, batch_tokens=256, block_tokens=2_000,
    forward_tokens=300, dead_share=0.05,
)  # fmt: skip
DOCUMENTS = [Document(f"text#{i}", make_text(90, seed=i)) for i in range(40)]


class Killed(BaseException):
    pass


class Recorder:
    """A progress that remembers, and may kill the run once it has come so far."""

    def __init__(self, kill_at: float = float("inf")) -> None:
        self.done, self.notes, self.kill_at = 0.0, [], kill_at

    @contextmanager
    def task(self, name: str, total: float | None, unit: str) -> Iterator[Recorder]:
        self.total, self.unit = total, unit
        yield self

    def advance(self, amount: float = 1) -> None:
        self.done += amount
        if self.done >= self.kill_at:
            raise Killed

    def note(self, text: str) -> None:
        self.notes.append(text)

    def notice(self, sentence: str) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(folder) -> LanguageModel:
    return LanguageModel.load(str(folder), device="cpu")


def stream(model: LanguageModel) -> ContextStream:
    return ContextStream(DOCUMENTS, model.tokenizer, 32, bos_id=model.bos_id, skip_documents=2)


def train(model, folder, config=CONFIG, progress=None, contexts=None, points=POINTS):
    trained = train_saes(
        model, [Spec(str(point), (Sites.at(point),), config) for point in points],
        contexts or stream(model), folder, progress or Silent(), checkpoint_seconds=0,
    )  # fmt: skip
    return {point: trained[str(point)].weights for point in points}


@pytest.fixture(scope="module")
def uninterrupted(model, tmp_path_factory) -> tuple[dict, dict, dict]:
    folder, contexts = tmp_path_factory.mktemp("whole"), stream(model)
    saes = train(model, folder, contexts=contexts)
    return saes, checkpoint(folder)[0], contexts.state()


def checkpoint(folder: Path) -> tuple[dict, dict]:
    tensors, metadata = read_tensors(folder / "checkpoint.safetensors")
    return tensors, json.loads(metadata["training"])


def test_one_sae_for_each_hook_point(model, uninterrupted):
    saes, _, _ = uninterrupted
    assert tuple(saes) == POINTS
    assert len({sae.sha256() for sae in saes.values()}) == 3
    for sae in saes.values():
        assert (sae.d_in, sae.d_sae, sae.k, sae.architecture) == (model.d_model, 48, 4, "topk")


@pytest.mark.parametrize("kills", [[0], [1100], [2600, 2700], [4900], [8800], [2000, 5000, 8900]])
def test_killed_and_resumed_ends_with_the_same_bits(model, tmp_path, uninterrupted, kills):
    saes, last, state = uninterrupted
    for kill_at in kills:
        progress = Recorder(kill_at)
        with pytest.raises(Killed):
            train(model, tmp_path, progress=progress)
    contexts = stream(model)
    resumed = train(model, tmp_path, contexts=contexts)
    for point, sae in saes.items():
        assert sae.sha256() == resumed[point].sha256(), point
    tensors, _ = checkpoint(tmp_path)
    assert tensors.keys() == last.keys()
    assert all(torch.equal(tensors[name], last[name]) for name in last)
    assert contexts.state() == state


def test_a_resumed_run_begins_at_its_checkpoint(model, tmp_path):
    with pytest.raises(Killed):
        train(model, tmp_path, progress=Recorder(5000))
    tokens = checkpoint(tmp_path)[1]["tokens"]
    assert tokens == 4000
    progress = Recorder()
    train(model, tmp_path, progress=progress)
    assert len(progress.notes) == 3  # blocks of 2000, 2000 and 1000 tokens
    assert progress.done == pytest.approx(9000)


def test_a_finished_training_is_not_done_again(model, tmp_path, uninterrupted, monkeypatch):
    train(model, tmp_path)
    monkeypatch.setattr(model, "run", lambda *_: pytest.fail("the model was run again"))
    contexts = stream(model)
    saes = train(model, tmp_path, contexts=contexts)
    assert {p: s.sha256() for p, s in saes.items()} == {
        p: s.sha256() for p, s in uninterrupted[0].items()
    }
    assert contexts.state() == uninterrupted[2]


def test_progress_counts_tokens_and_tells_explained_variance(model, tmp_path):
    progress = Recorder()
    train(model, tmp_path, progress=progress)
    assert (progress.total, progress.unit) == (9000, "tokens")
    assert progress.done == pytest.approx(9000)
    first, *_, last = (float(note.removeprefix("explained variance ")) for note in progress.notes)
    assert 0 < first < last < 1


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_same_bits_whatever_the_number_of_threads(model, tmp_path, uninterrupted, threads):
    # With 4 threads for 3 SAEs, the jobs of one step run side by side.
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        saes = train(model, tmp_path)
    finally:
        torch.set_num_threads(before)
    assert [sae.sha256() for sae in saes.values()] == [
        sae.sha256() for sae in uninterrupted[0].values()
    ]


def test_an_sae_does_not_depend_on_the_others(model, tmp_path, uninterrupted):
    alone = train(model, tmp_path, points=POINTS[2:])
    assert alone[POINTS[2]].sha256() == uninterrupted[0][POINTS[2]].sha256()


def test_the_seed_decides(model, tmp_path, uninterrupted):
    other = TrainConfig(**{**CONFIG.__dict__, "seed": 4})
    saes = train(model, tmp_path, other)
    assert saes[POINTS[0]].sha256() != uninterrupted[0][POINTS[0]].sha256()


def test_blocks_are_bounded_in_bytes(model, tmp_path):
    width = sum(model.width(point) for point in POINTS)
    small = TrainConfig(**{**CONFIG.__dict__, "block_bytes": 4 * width * 900})
    progress = Recorder()
    train(model, tmp_path, small, progress)
    assert len(progress.notes) == 10  # 900 tokens each


def test_weights_explain_the_activations(model, tmp_path):
    config = TrainConfig(d_sae=96, k=8, train_tokens=40_000, batch_tokens=512, block_tokens=10_000)
    point = POINTS[2]
    sae = train(model, tmp_path, config, points=[point])[point]
    contexts = stream(model)
    x = model.run(next(batches(contexts, 2000, model.pad_id)), [point])[0]
    left = (x - sae.decode(sae.encode(x), x)).square().sum()
    assert 1 - left / (x - x.mean(0)).square().sum() > 0.75
    assert (x * sae.input_scale - sae.pre_bias).norm(dim=1).mean().item() == pytest.approx(
        sae.d_in**0.5, rel=0.1
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"d_sae": 0}, "width 0"),
        ({"d_sae": -3}, "width -3"),
        ({"k": 0}, "k = 0"),
        ({"k": 49}, r"k = 49 .* 48 features"),
        ({"train_tokens": 0}, "train_tokens = 0"),
        ({"lr": 0.0}, "learning rate of 0.0"),
        ({"architecture": "dense"}, "'dense'; use one of .*topk"),
    ],
)
def test_settings_that_make_no_sense_are_told(model, tmp_path, options, sentence):
    with pytest.raises(BadInput, match=sentence):
        train(model, tmp_path, TrainConfig(**{**CONFIG.__dict__, **options}))
    assert not list(tmp_path.iterdir())


def test_activations_that_are_not_finite_are_told(folder, tmp_path):
    broken = LanguageModel.load(str(folder), device="cpu", name="tiny")
    with torch.no_grad():
        broken.model.get_parameter("model.layers.1.mlp.down_proj.weight")[3, 0] = float("nan")
    with pytest.raises(BadInput, match="tiny gives NaN or infinite activations at 1-resid_post"):
        train(broken, tmp_path, points=[POINTS[0], POINTS[2]])


def test_a_checkpoint_of_another_training_is_told(model, tmp_path):
    train(model, tmp_path, points=POINTS[:1])
    with pytest.raises(BadInput, match="of another training"):
        train(model, tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"torn")
    with pytest.raises(BadInput, match="cannot be read"):
        train(model, tmp_path)
