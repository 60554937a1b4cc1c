"""TopK training steps: gradients against autograd, constraints, dead latents, quality."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from atlas.ingest.topk import TopK, _Step, geometric_median
from atlas.ingest.trainee import TrainConfig, seeded
from atlas.workers import run_here, run_lanes

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
    return TopK(d_in, config, seeded(config.seed, "test"), CPU)


def train(sae: TopK, x: torch.Tensor, rate: float) -> None:
    run_lanes([sae.step(x, rate)])


def planted(n: int, d: int = 16, n_features: int = 48, active: int = 3, seed: int = 0):
    """Sums of a few out of many random directions, off centre."""
    g = torch.Generator().manual_seed(1)
    directions, centre = F.normalize(torch.randn(n_features, d, generator=g), dim=1), torch.ones(d)
    g = torch.Generator().manual_seed(seed)
    chosen = torch.rand(n, n_features, generator=g).topk(active, dim=1).indices
    strength = 1 + torch.rand(n, active, generator=g)
    return 3 * F.embedding_bag(chosen, directions, per_sample_weights=strength, mode="sum") + centre


def plain_loss(p, h, k, dead, k_aux, alpha):
    """The loss as it is written in the paper, with dense activations; p: parameters by name."""

    def decode(pre, k):
        value, index = pre.topk(k, dim=1)
        return torch.zeros_like(pre).scatter(1, index, value.relu())

    pre = h @ p["W_enc"].T + p["b_enc"]
    error = h - decode(pre, k) @ p["W_dec"] - p["b_dec"]
    loss = error.square().mean()
    if len(dead):
        m = -(-len(h) // 8)
        k_aux_here = min(k_aux, len(dead))
        acts = decode(pre[:m, dead], k_aux_here)
        left = error[:m].detach() - acts @ p["W_dec"][dead]
        loss = loss + alpha * min(1, len(dead) / k_aux) * left.square().mean()
    return loss


@st.composite
def cases(draw):
    d_sae = draw(st.integers(1, 90))
    return {
        "n": draw(st.sampled_from([1, 2, 7, 64, 500])),
        "d_in": draw(st.integers(1, 20)),
        "d_sae": d_sae,
        "k": draw(st.integers(1, d_sae)),
        "n_dead": draw(st.integers(0, d_sae)),
        "seed": draw(st.integers(0, 1000)),
    }


@given(cases())
@settings(max_examples=60, deadline=None)
def test_gradients_equal_autograd(case):
    n, seed = case["n"], case["seed"]
    sae = make(case["d_in"], case["d_sae"], case["k"], seed=seed)
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, case["d_in"], generator=g) * 3 + 1
    sae.begin(x)
    for p in (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec):
        p.add_(torch.randn(p.shape, generator=g) / 4)
    sae.W_dec.copy_(F.normalize(sae.W_dec, dim=1))
    dead = torch.randperm(case["d_sae"], generator=g)[: case["n_dead"]].sort().values
    sae.idle[dead] = sae.config.dead_after() + 1

    step = _Step(sae, x)
    step.code(0)
    step.transpose()
    found = dict(
        zip(("W_enc", "b_enc", "W_dec", "b_dec"),
            step.encoder_gradients() + step.decoder_gradients(), strict=True)
    )  # fmt: skip
    p = {name: getattr(sae, name).double().requires_grad_() for name in found}
    h = (x * sae.input_scale.item() - sae.pre_bias).double()
    plain_loss(p, h, case["k"], dead, sae.k_aux, sae.config.aux_alpha).backward()
    W = p["W_dec"].detach()
    p["W_dec"].grad -= (p["W_dec"].grad * W).sum(1, keepdim=True) * W
    for name, gradient in found.items():
        expected = p[name].grad
        close = 1e-4 * expected.abs().max().item() + 1e-7
        torch.testing.assert_close(gradient.double(), expected, atol=close, rtol=1e-3, msg=name)


def test_steps_do_not_depend_on_how_their_jobs_run():
    saes = [make(d_sae=128, train_tokens=20_000) for _ in range(3)]
    for sae, threads in zip(saes, (0, 1, 2), strict=True):
        torch.set_num_threads(threads or 1)
        sae.begin(planted(2000, 12))
        for i in range(6):
            step = sae.step(planted(1500, 12, seed=i), 1e-3)
            run_lanes([step]) if threads else run_here(step)
    states = [sae.state() for sae in saes]
    for name, tensor in states[0].items():
        assert torch.equal(states[1][name], tensor), name
        assert torch.equal(states[2][name], tensor), name


def test_decoder_rows_keep_unit_norm():
    sae = make()
    sae.begin(planted(500, 12))
    for i in range(5):
        train(sae, planted(300, 12, seed=i), 1e-2)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(64))


def test_begins_centred_and_scaled():
    x = planted(4000) * 7 + 100
    sae = make(16)
    sae.begin(x)
    h = x * sae.input_scale.item() - sae.pre_bias
    assert h.norm(dim=1).mean().item() == pytest.approx(4, rel=1e-4)
    assert h.mean(0).abs().max() < 0.2
    torch.testing.assert_close(sae.weights().b_dec, sae.pre_bias)


def test_constant_activations_are_no_trouble():
    sae = make()
    sae.begin(torch.ones(100, 12))
    train(sae, torch.ones(64, 12), 1e-3)
    assert all(tensor.isfinite().all() for tensor in sae.state().values())


def test_geometric_median_withstands_outliers():
    x = torch.randn(1000, 5, generator=torch.Generator().manual_seed(0))
    x[::100] += 1000
    assert x.mean(0).norm() > 10
    assert geometric_median(x).norm() < 0.3


def test_idle_counts_tokens_since_a_latent_fired():
    sae = make()
    sae.begin(planted(500, 12))
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
        sae.begin(planted(2000))
        sae.W_enc[:72] *= 0.1  # above 0 at times, but hardly ever among the largest
        for i in range(60):
            train(sae, planted(512, seed=i), 5e-3)
        alive.append((sae.idle[:72] < sae.config.dead_after()).float().mean())
        explained.append(sae.explained_variance())
    assert alive[0] < 0.2 < 0.35 < alive[1]
    assert explained[1] > explained[0]


def test_learns_no_worse_than_a_plain_loop():
    """Explained variance on unseen data, against autograd and torch.optim.Adam at one rate."""
    steps, k, d_sae, d = 100, 4, 96, 16
    batches, unseen = [planted(512, seed=i) for i in range(steps)], planted(4000, seed=10**6)
    spread = (unseen - unseen.mean(0)).square().sum()

    sae = make(d, d_sae, k, train_tokens=steps * 512, batch_tokens=512)
    sae.begin(batches[0])
    for i, x in enumerate(batches):
        train(sae, x, sae.config.rate(i * 512, d))
    seen = sae.explained_variance()
    weights = sae.weights()
    ours = 1 - (unseen - weights.decode(weights.encode(unseen))).square().sum() / spread

    torch.manual_seed(0)
    W = F.normalize(torch.randn(d_sae, d), dim=1)
    p = {"W_enc": W.clone(), "b_enc": torch.zeros(d_sae), "W_dec": W, "b_dec": torch.zeros(d)}
    optimizer = torch.optim.Adam([tensor.requires_grad_() for tensor in p.values()], lr=5e-3)
    mean = batches[0].mean(0)
    scale = d**0.5 / (batches[0] - mean).norm(dim=1).mean()
    for x in batches:
        optimizer.zero_grad()
        plain_loss(p, (x - mean) * scale, k, [], 1, 0).backward()
        optimizer.step()
        with torch.no_grad():
            W.div_(W.norm(dim=1, keepdim=True))
    with torch.no_grad():
        h = (unseen - mean) * scale
        plain = 1 - plain_loss(p, h, k, [], 1, 0) * h.numel() / (spread * scale**2)
    assert ours > plain
    assert 0.5 < seen < ours < 1
    assert torch.isnan(torch.tensor(sae.explained_variance()))  # forgotten when told


def test_rate_rises_then_falls_to_nothing():
    config = TrainConfig(d_sae=1024, k=4, train_tokens=1_000_000, warmup=0.1, decay=0.2)
    rates = [config.rate(tokens, 64) for tokens in range(0, 1_000_001, 2048)]
    assert rates[0] > 0
    assert max(rates) == pytest.approx(config.lr / 8)
    assert rates[-1] < max(rates) / 50
    assert all(a <= b for a, b in pairwise(rates[:40]))
    assert all(a >= b for a, b in pairwise(rates[60:]))
    wide = TrainConfig(d_sae=4096, k=4, train_tokens=1_000_000)
    assert wide.rate(500_000, 64) == pytest.approx(config.lr / 16)
