"""TopK training: constraints, conventions, dead latents, quality against a plain loop, rates."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from atlas.ingest.training.architectures.conventions import geometric_median
from atlas.ingest.training.architectures.topk import TopK
from atlas.ingest.training.trainee import Moment, Shape, TrainConfig, seeded
from atlas.workers import run_here

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The tensors are too small to be shared between threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(d_in=12, d_sae=64, k=5, **options) -> TopK:
    config = TrainConfig(d_sae=d_sae, k=k, **({"train_tokens": 100_000} | options))
    return TopK(Shape((d_in,), (d_in,), same=True), config, seeded(config.seed, "test"), CPU)


def train(sae: TopK, x: torch.Tensor, schedule: float = 1.0) -> None:
    run_here(sae.step(x, x, Moment(tokens=0, share=0.0, schedule=schedule)))


def planted(n: int, d: int = 16, n_features: int = 48, active: int = 3, seed: int = 0):
    """Sums of a few out of many random directions, off centre."""
    g = torch.Generator().manual_seed(1)
    directions, centre = F.normalize(torch.randn(n_features, d, generator=g), dim=1), torch.ones(d)
    g = torch.Generator().manual_seed(seed)
    chosen = torch.rand(n, n_features, generator=g).topk(active, dim=1).indices
    strength = 1 + torch.rand(n, active, generator=g)
    return 3 * F.embedding_bag(chosen, directions, per_sample_weights=strength, mode="sum") + centre


def plain_error(p, h, k):
    """h - ĥ as it is written in the paper, with dense activations; p: parameters by name."""
    value, index = (h @ p["W_enc"].T + p["b_enc"]).topk(k, dim=1)
    acts = torch.zeros(len(h), len(p["W_enc"])).scatter(1, index, value.relu())
    return h - acts @ p["W_dec"] - p["b_dec"]


def test_decoder_rows_keep_unit_norm():
    sae = make()
    sae.begin(*[planted(500, 12)] * 2)
    for i in range(5):
        train(sae, planted(300, 12, seed=i))
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(64))


def test_begins_centred_and_scaled():
    x = planted(4000) * 7 + 100
    sae = make(16)
    sae.begin(*[x] * 2)
    h = sae.conventions.read(x)
    assert h.norm(dim=1).mean().item() == pytest.approx(4, rel=1e-4)
    assert h.mean(0).abs().max() < 0.2
    torch.testing.assert_close(sae.weights().b_dec, sae.weights().pre_bias)


def test_constant_activations_are_no_trouble():
    sae = make()
    sae.begin(*[torch.ones(100, 12)] * 2)
    train(sae, torch.ones(64, 12))
    assert all(tensor.isfinite().all() for tensor in sae.state().values())


def test_long_gradients_are_shortened():
    """To the length that is set, in the proportions that they have; the moments show them."""
    found = []
    for clip in (1e9, 1e-3):
        sae = make(clip=clip)
        sae.begin(*[planted(500, 12)] * 2)
        train(sae, planted(300, 12, seed=1), schedule=0.0)
        moments = [t.flatten() for name, t in sae.state().items() if ".first." in name]
        found.append(10 * torch.cat(moments))
    whole, short = found
    assert whole.norm() > 1e-2
    assert short.norm().item() == pytest.approx(1e-3, rel=1e-4)
    torch.testing.assert_close(short, whole * 1e-3 / whole.norm())


def test_geometric_median_withstands_outliers():
    x = torch.randn(1000, 5, generator=torch.Generator().manual_seed(0))
    x[::100] += 1000
    assert x.mean(0).norm() > 10
    assert geometric_median(x).norm() < 0.3


def test_idle_counts_tokens_since_a_latent_fired():
    sae = make()
    sae.begin(*[planted(500, 12)] * 2)
    sae.b_enc[:10] = -1e6
    for i in range(3):
        train(sae, planted(200, 12, seed=i), 0.0)
    assert sae.idle[:10].tolist() == [600] * 10
    acts = sae.weights().encode(planted(200, 12, seed=2))
    fired = acts.index[acts.value > 0].unique().long()
    assert sae.idle[fired].max() == 0


def test_aux_loss_revives_dead_latents():
    alive, explained = [], []
    for alpha in (0.0, 1 / 32):
        sae = make(16, 96, 4, train_tokens=200_000, aux_alpha=alpha, dead_share=0.01)
        sae.begin(*[planted(2000)] * 2)
        sae.W_enc[:72] *= 0.1  # above 0 at times, but hardly ever among the largest
        for i in range(60):
            train(sae, planted(512, seed=i))
        alive.append((sae.idle[:72] < sae.config.dead_after()).float().mean())
        explained.append(sae.report()["explained_variance"])
    assert alive[0] < 0.2 < 0.35 < alive[1]
    assert explained[1] > explained[0]


def test_aux_loss_revives_latents_that_are_never_above_0():
    alive = []
    for alpha in (0.0, 1 / 32):
        sae = make(16, 96, 4, train_tokens=200_000, aux_alpha=alpha, dead_share=0.01)
        sae.begin(*[planted(2000)] * 2)
        sae.b_enc[:72] = -6
        for i in range(100):
            train(sae, planted(512, seed=i))
        alive.append((sae.idle[:72] < sae.config.dead_after()).float().mean())
    assert alive[0] == 0
    assert alive[1] > 0.4


def test_learns_no_worse_than_a_plain_loop():
    """Explained variance on unseen data, against autograd and torch.optim.Adam at one rate."""
    steps, k, d_sae, d = 100, 4, 96, 16
    batches, unseen = [planted(512, seed=i) for i in range(steps)], planted(4000, seed=10**6)
    spread = (unseen - unseen.mean(0)).square().sum()

    sae = make(d, d_sae, k, train_tokens=steps * 512, batch_tokens=512)
    sae.begin(*[batches[0]] * 2)
    for i, x in enumerate(batches):
        train(sae, x, sae.config.moment(i * 512).schedule)
    seen = sae.report()["explained_variance"]
    weights = sae.weights()
    ours = 1 - (unseen - weights.decode(weights.encode(unseen), unseen)).square().sum() / spread

    torch.manual_seed(0)
    W = F.normalize(torch.randn(d_sae, d), dim=1)
    p = {"W_enc": W.clone(), "b_enc": torch.zeros(d_sae), "W_dec": W, "b_dec": torch.zeros(d)}
    optimizer = torch.optim.Adam([tensor.requires_grad_() for tensor in p.values()], lr=5e-3)
    mean = batches[0].mean(0)
    scale = d**0.5 / (batches[0] - mean).norm(dim=1).mean()
    for x in batches:
        optimizer.zero_grad()
        plain_error(p, (x - mean) * scale, k).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            W.div_(W.norm(dim=1, keepdim=True))
    with torch.no_grad():
        h = (unseen - mean) * scale
        plain = 1 - plain_error(p, h, k).square().sum() / (spread * scale**2)
    assert ours > plain
    assert 0.5 < seen < ours < 1
    assert torch.isnan(torch.tensor(sae.report()["loss"]))  # forgotten when told


def test_rate_rises_then_falls_to_nothing():
    config = TrainConfig(d_sae=1024, k=4, train_tokens=1_000_000, warmup=0.1, decay=0.2)
    rates = [config.moment(tokens).schedule for tokens in range(0, 1_000_001, 2048)]
    assert rates[0] > 0
    assert max(rates) == 1
    assert config.peak_rate(64) == pytest.approx(config.lr / 8)
    assert rates[-1] < max(rates) / 50
    assert all(a <= b for a, b in pairwise(rates[:40]))
    assert all(a >= b for a, b in pairwise(rates[60:]))
    wide = TrainConfig(d_sae=4096, k=4, train_tokens=1_000_000)
    assert wide.peak_rate(64) == pytest.approx(config.lr / 16)
