"""End-to-end training: the gradient through the model, resuming, and what it is for."""

from __future__ import annotations

import pytest
import torch
from tiny import make_model, make_text

from atlas.demo import MODELS, models_folder
from atlas.errors import BadInput
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint, Sites
from atlas.ingest.text.contexts import ContextStream, batches
from atlas.ingest.text.corpus import Document
from atlas.ingest.text.stdlib_corpus import stdlib_corpus
from atlas.ingest.training.end_to_end import _gradient, train_end_to_end
from atlas.ingest.training.state import Spec
from atlas.ingest.training.trainee import TrainConfig
from atlas.progress import Silent

POINT = HookPoint(0, "resid_post")
CONFIG = TrainConfig(d_sae=48, k=4, train_tokens=24_000, batch_tokens=512, block_tokens=6_000)
DOCUMENTS = [Document(f"text#{i}", make_text(90, seed=i)) for i in range(40)]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> LanguageModel:
    torch.set_num_threads(1)
    folder = make_model(tmp_path_factory.mktemp("model"))
    model = LanguageModel.load(str(folder), device="cpu")
    with torch.no_grad():  # a random model hardly predicts: make its predictions sharper
        model.model.get_output_embeddings().weight.mul_(20)
    return model


def stream(model) -> ContextStream:
    return ContextStream(DOCUMENTS, model.tokenizer, 32, bos_id=model.bos_id)


def specs(config=CONFIG) -> list[Spec]:
    return [Spec(str(POINT), (Sites.at(POINT),), config)]


def divergence(model, weights, contexts) -> float:
    batch = next(batches(contexts, 4000, model.pad_id))
    clean, _ = model.log_probs(batch)
    spliced, _ = model.log_probs(batch, {POINT: lambda x: weights.decode(weights.encode(x), x)})
    return float((clean.exp() * (clean - spliced)).sum(1).mean())


def test_the_gradient_is_that_of_the_divergence(model):
    batch = next(batches(stream(model), 60, model.pad_id))
    (x,) = model.run(batch, [POINT])
    clean, _ = model.log_probs(batch)
    y_hat = (x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).double()
    gradient = _gradient(model, batch, POINT, clean, x, y_hat.float()).double()

    def loss(y: torch.Tensor) -> float:
        spliced, _ = model.log_probs(batch, {POINT: lambda _: y.float()})
        return float((clean.double().exp() * (clean - spliced).double()).sum(1).mean())

    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double()
    step = 1e-2
    slope = (loss(y_hat + step * direction) - loss(y_hat - step * direction)) / (2 * step)
    by_error = 2 * (y_hat - x) / (x - x.mean(0)).square().sum()
    gradient = 2 * gradient - by_error
    assert float(gradient.norm()) == pytest.approx(float(by_error.norm()), rel=1e-4)
    # Along the gradient the divergence grows by its length; across it not at all.
    along = gradient / gradient.norm()
    steepest = (loss(y_hat + step * along) - loss(y_hat - step * along)) / (2 * step)
    assert slope == pytest.approx(steepest * float((along * direction).sum()), rel=0.03)


def test_predictions_change_less_than_by_the_square_error_alone(tmp_path):
    """On a model that has learnt something: that of the demo."""
    shipped = LanguageModel.load(str(models_folder() / MODELS[0]), device="cpu")
    config = TrainConfig(d_sae=128, k=8, train_tokens=60_000, batch_tokens=1024)
    corpus = stdlib_corpus()
    found = []
    for share in (0.0, 0.5):
        contexts = ContextStream(corpus, shipped.tokenizer, 64, bos_id=shipped.bos_id)
        (one,) = train_end_to_end(
            shipped, specs(config), contexts, tmp_path / str(share), Silent(), share=share
        ).values()
        found.append(divergence(shipped, one.weights, contexts))
        assert one.record[-1]["tokens"] >= config.train_tokens
    assert found[1] < 0.97 * found[0]


class Killed(BaseException):
    pass


def test_killed_and_resumed_ends_with_the_same_bits(model, tmp_path):
    def kill(records):
        if records[str(POINT)][-1]["tokens"] > 19_000:
            raise Killed

    whole = train_end_to_end(model, specs(), stream(model), tmp_path / "a", Silent())
    with pytest.raises(Killed):
        train_end_to_end(
            model, specs(), stream(model), tmp_path / "b", Silent(), checkpoint_seconds=0,
            record=kill,
        )  # fmt: skip
    assert (tmp_path / "b" / "checkpoint.safetensors").exists()
    again = train_end_to_end(model, specs(), stream(model), tmp_path / "b", Silent())
    assert again[str(POINT)].weights.sha256() == whole[str(POINT)].weights.sha256()
    assert again[str(POINT)].record == whole[str(POINT)].record


def test_a_model_without_predictions_is_told(model, tmp_path, monkeypatch):
    monkeypatch.setattr(model, "is_causal", False)
    with pytest.raises(BadInput, match="end-to-end needs a model that predicts"):
        train_end_to_end(model, specs(), stream(model), tmp_path, Silent())
