"""Training of the TopK family: reproducible, resumable, and what is stored is what was trained."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from atlas.ingest.training.architectures import ARCHITECTURES
from atlas.ingest.training.architectures.batch import Batch
from atlas.ingest.training.trainee import Shape, TrainConfig, seeded
from atlas.workers import run_here, run_lanes
from tests.test_sparse_gradients import FAMILY

CPU = torch.device("cpu")
BATCH = 1024
BY_THRESHOLD = ("batchtopk", "matryoshka", "feature-choice", "mutual-choice", "crosscoder")


@pytest.fixture(autouse=True)
def one_thread():
    """The tensors are too small to be shared between threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def planted(n, d=24, n_features=120, active=4, seed=0):
    """Sums of a few out of many random directions, some much more frequent than others."""
    g = torch.Generator().manual_seed(1)
    directions = F.normalize(torch.randn(n_features, d, generator=g), dim=1)
    chance = 1 / (torch.arange(n_features) + 5.0)
    g = torch.Generator().manual_seed(seed)
    chosen = torch.multinomial(chance.expand(n, -1), active, generator=g)
    strength = 1 + torch.rand(n, active, generator=g)
    return F.embedding_bag(chosen, directions, per_sample_weights=strength, mode="sum") * 3 + 1


class Training:
    """One architecture on planted data."""

    def __init__(self, architecture, n_steps=60, d_sae=128, k=4, **options):
        self.reads = ARCHITECTURES[architecture].reads
        shape = {
            "itself": Shape((24,), (24,), same=True),
            "another": Shape((24,), (10,), same=False),
            "several": Shape((16, 8), (16, 8), same=True),
        }[self.reads]
        options = {"dead_share": 0.1} | options
        self.config = TrainConfig(
            d_sae=d_sae,
            k=k,
            train_tokens=n_steps * BATCH,
            batch_tokens=BATCH,
            architecture=architecture,
            **options,
        )
        self.sae = ARCHITECTURES[architecture].make(shape, self.config, seeded(0), CPU)

    def xy(self, n=BATCH, seed=0):
        x = planted(n, seed=seed)
        if self.reads == "another":
            mixed = torch.randn(24, 10, generator=torch.Generator().manual_seed(5))
            return x, (x.relu() @ mixed) * 4 + 2
        if self.reads == "several":  # hook points of very different sizes
            x = x * torch.tensor([20.0] * 16 + [1.0] * 8)
        return x, x

    def begin(self):
        self.sae.begin(*self.xy(4000))
        return self

    def step(self, i, run=run_here, by_output=None):
        run(self.sae.step(*self.xy(seed=i + 1), self.config.moment(i * BATCH), by_output))

    def run(self, steps):
        for i in steps:
            self.step(i)
        return self


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert torch.equal(b[name], tensor), name


@pytest.mark.parametrize("architecture", FAMILY)
def test_goes_on_from_a_state_to_the_same_bits(architecture):
    whole = Training(architecture).begin().run(range(12))
    half = Training(architecture).begin().run(range(6))
    state = {name: tensor.clone() for name, tensor in half.sae.state().items()}
    rest = Training(architecture)
    rest.sae.restore(state)
    rest.run(range(6, 12))
    assert_same(whole.sae.state(), rest.sae.state())
    assert whole.sae.weights().sha256() == rest.sae.weights().sha256()


@pytest.mark.parametrize("architecture", FAMILY)
def test_threads_do_not_change_a_bit(architecture):
    states = []
    for threads in (0, 1, 2):
        torch.set_num_threads(threads or 1)
        training = Training(architecture).begin()
        for i in range(5):
            training.step(i, run=(lambda lane: run_lanes([lane])) if threads else run_here)
        states.append({name: t.clone() for name, t in training.sae.state().items()})
    assert_same(states[0], states[1])
    assert_same(states[0], states[2])


@pytest.mark.parametrize("architecture", FAMILY)
def test_following_the_mean_square_error_from_outside_is_the_same(architecture):
    """`by_output` with the gradient of the mean square error in units of the hook points."""
    inside, outside = Training(architecture).begin(), Training(architecture).begin()
    for i in range(3):
        _, y = outside.xy(seed=i + 1)
        conventions = outside.sae.conventions
        scale = conventions.factor(conventions.output_scale, y)
        calls = []

        def gradient(found, y=y, scale=scale, calls=calls):
            calls.append(len(found))
            return 2 / y.numel() * (found - y) * scale**2

        inside.step(i)
        outside.step(i, by_output=gradient)
        assert calls == [len(y)]
    ours, theirs = inside.sae.weights(), outside.sae.weights()
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        torch.testing.assert_close(
            getattr(theirs, name), getattr(ours, name), atol=2e-3, rtol=1e-2, msg=name
        )


@pytest.mark.parametrize("architecture", [a for a in FAMILY if a not in BY_THRESHOLD])
def test_stored_form_gives_the_code_of_training(architecture):
    training = Training(architecture).begin().run(range(20))
    x, y = training.xy(700, seed=99)
    batch = Batch(training.sae, x, y)
    run_here(training.sae.encode(batch))
    weights = training.sae.weights()
    expected, found = batch.entries, weights.encode(x)
    by_row = torch.zeros(700, 128)
    by_row[expected.bag().long(), expected.latent.long()] = expected.value
    if architecture == "switch":  # of an expert's rows, which BLAS adds up in another order
        torch.testing.assert_close(found.dense(128), by_row, atol=1e-5, rtol=1e-4)
    else:
        assert torch.equal(found.dense(128), by_row)


@pytest.mark.parametrize("architecture", FAMILY)
def test_learns_planted_features_at_the_sparsity_wanted(architecture):
    training = Training(architecture, n_steps=150).begin().run(range(150))
    x, y = training.xy(5000, seed=10**6)
    weights = training.sae.weights()
    code = weights.encode(x)
    left = y - weights.decode(code, x)
    spread = y - y.mean(0)
    if training.reads == "several":  # each hook point counts alike
        sizes = torch.tensor([20.0] * 16 + [1.0] * 8)
        left, spread = left / sizes, spread / sizes
    explained = 1 - left.square().sum() / spread.square().sum()
    l0 = (code.value > 0).sum().item() / len(x)
    assert explained > LEAST.get(architecture, 0.72)
    if architecture in BY_THRESHOLD:
        assert l0 == pytest.approx(4, rel=0.04)
    else:
        assert 3.5 < l0 <= 4
    report = training.sae.report()
    assert report["explained_variance"] > LEAST.get(architecture, 0.72) - 0.2
    assert report["l0"] == pytest.approx(4, rel=0.1)


LEAST = {"feature-choice": 0.6, "switch": 0.6}


def test_begins_anew_for_reports():
    training = Training("topk").begin().run(range(2))
    assert training.sae.report()["explained_variance"] < 1
    assert torch.isnan(torch.tensor(training.sae.report()["explained_variance"]))
