"""How the TopK family chooses: sorted entries, largest values, quotas, thresholds, prefixes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.errors import BadInput
from atlas.ingest.training.architectures import ARCHITECTURES
from atlas.ingest.training.architectures.batch import Batch
from atlas.ingest.training.architectures.batchtopk import entries_above, kth_largest
from atlas.ingest.training.architectures.choice import mth_largest, zipf_shares
from atlas.ingest.training.architectures.entries import Entries, sorted_by_latent
from atlas.ingest.training.architectures.threshold import Threshold
from atlas.ingest.training.trainee import Shape, TrainConfig, seeded
from atlas.workers import run_here

CPU = torch.device("cpu")
seeds = st.integers(0, 2**31)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make(architecture, d_sae=64, k=4, **own):
    config = TrainConfig(
        d_sae=d_sae, k=k, train_tokens=100_000, architecture=architecture, settings=own
    )
    shape = Shape((12,), (12,), same=True)
    return ARCHITECTURES[architecture].make(shape, config, seeded(0), CPU)


@given(st.integers(0, 400), st.integers(1, 50), seeds)
@settings(max_examples=50, deadline=None)
def test_entries_sorted_by_latent_keep_their_order(m, d_sae, seed):
    g = torch.Generator().manual_seed(seed)
    latent = torch.randint(d_sae, (m,), dtype=torch.int32, generator=g)
    order, offset = sorted_by_latent(latent, d_sae)
    assert torch.equal(order.long(), latent.sort(stable=True).indices)
    assert torch.equal(offset.diff().long(), torch.bincount(latent, minlength=d_sae))
    assert order.dtype == offset.dtype == torch.int32


@given(st.integers(1, 9), st.integers(1, 30), seeds, st.floats(-1, 2))
@settings(max_examples=50, deadline=None)
def test_entries_of_chunks_are_those_of_the_whole(n, d_sae, seed, floor):
    pre = noise(n, d_sae, seed=seed)
    whole = entries_above(pre, floor)
    parts = Entries.together([entries_above(part, floor) for part in pre.split(2)])
    kept = pre * (pre > floor)
    for found in (whole, parts):
        dense = torch.zeros(n, d_sae)
        dense[found.bag().long(), found.latent.long()] = found.value
        assert torch.equal(dense, kept)
    few = whole.where(whole.value > floor + 0.5)
    assert few.offset.diff().tolist() == (pre > floor + 0.5).sum(1).tolist()


@given(st.integers(1, 60), st.integers(1, 80), seeds)
@settings(max_examples=50, deadline=None)
def test_kth_largest(m, k, seed):
    values = noise(m, seed=seed)
    expected = values.sort(descending=True).values[min(k, m) - 1]
    assert kth_largest(values, k) == expected


@given(st.integers(1, 12), st.integers(1, 40), seeds)
@settings(max_examples=50, deadline=None)
def test_mth_largest_of_each_row_and_the_next(rows, n, seed):
    x = noise(rows, n, seed=seed)
    m = torch.from_numpy(np.random.default_rng(seed).integers(1, n + 1, rows))
    falling = torch.nn.functional.pad(x.sort(1, descending=True).values, (0, 1), value=-torch.inf)
    expected = falling.gather(1, torch.stack([m - 1, m], 1)).T
    assert torch.equal(mth_largest(x, m), expected)


@given(st.integers(1, 100), st.integers(1, 2000), st.floats(0, 2))
@settings(max_examples=100, deadline=None)
def test_shares_fall_as_a_power_and_sum_to_k(k, d_sae, exponent):
    shares = zipf_shares(min(k, d_sae), d_sae, exponent)
    assert (shares.diff() <= 1e-12).all()
    assert shares.max() <= 1
    if 2 * k < d_sae:
        assert shares.sum().item() == pytest.approx(k)
        assert shares[0] <= 0.5 + 1e-9


def test_batchtopk_chooses_the_same_wherever_it_begins_to_look():
    sae = make("batchtopk")
    x = noise(1500, 12) * 2
    sae.begin(x, x)
    chosen = []
    for least in (0.0, 1e-4, 0.5, 3.0, 1e6):
        sae.least.fill_(least)
        batch = Batch(sae, x, x)
        run_here(sae.encode(batch))
        chosen.append(batch.entries)
    assert len(chosen[0].latent) == 4 * len(x)
    for other in chosen[1:]:
        for name in ("offset", "latent", "value"):
            assert torch.equal(getattr(other, name), getattr(chosen[0], name))


def test_a_threshold_does_not_lag_behind_a_drift():
    threshold, n = Threshold(2, CPU), 1000
    drift = torch.tensor([-0.3, 0.5])
    for i in range(200):
        threshold.follow(5 + drift * i / 200, n, i * n)
    torch.testing.assert_close(threshold.value, 5 + drift, atol=0.01, rtol=0)


def test_feature_choice_gives_each_latent_its_quota():
    sae = make("feature-choice", zipf=1.0)
    x = noise(1000, 12) * 2
    sae.begin(x, x)
    batch = Batch(sae, x, x)
    run_here(sae.encode(batch))
    counts = torch.bincount(batch.entries.latent, minlength=64)
    wanted = (zipf_shares(4, 64, 1.0) * 1000).round()
    # A latent of which half the pre-activations are above 0 has fewer only if it wants more.
    assert (counts <= wanted).all()
    assert counts.sum() > 0.9 * 4000
    assert batch.entries.value.min() > 0


@pytest.mark.parametrize("d_sae", [1, 2, 7, 64, 1000])
def test_matryoshka_prefixes_are_nested(d_sae):
    prefixes = make("matryoshka", d_sae=d_sae, k=1).prefixes
    assert all(0 < a < b for a, b in pairwise(prefixes))
    assert prefixes[-1] == d_sae
    assert len(prefixes) <= 5
    if d_sae >= 32:
        assert all(1.8 < b / a < 3.3 for a, b in pairwise(prefixes))


def test_switch_refuses_widths_that_its_experts_cannot_share():
    for d_sae, k, experts in ((65, 4, 8), (64, 16, 8), (64, 4, 0)):
        with pytest.raises(BadInput, match="experts"):
            make("switch", d_sae=d_sae, k=k, experts=experts)


def test_switch_sends_tokens_to_all_experts():
    sae = make("switch", d_sae=64, k=4, experts=4)
    x = noise(4000, 12) * 2
    sae.begin(x, x)
    for i in range(40):
        run_here(sae.step(x[:1000], x[:1000], sae.config.moment(i * 1000)))
    expert = sae.weights().encode(x).index // 16
    shares = torch.bincount(expert, minlength=4) / len(expert)
    assert shares.min() > 0.1


def test_crosscoder_folds_the_scales_of_its_hook_points():
    """What is stored reads and writes the hook points' own units, as training does."""
    config = TrainConfig(d_sae=48, k=4, train_tokens=50_000, architecture="crosscoder")
    shape = Shape((8, 4), (8, 4), same=True)
    sae = ARCHITECTURES["crosscoder"].make(shape, config, seeded(0), CPU)
    x = noise(2000, 12) * torch.tensor([100.0] * 8 + [0.1] * 4) + 7
    sae.begin(x, x)
    run_here(sae.step(x, x, config.moment(0)))
    parts = torch.split(sae.W_dec, [8, 4], 1)
    torch.testing.assert_close(sum(part.norm(dim=1) for part in parts), torch.ones(48))
    weights = sae.weights()
    assert weights.input_scale == weights.output_scale == 1
    h = sae.conventions.read(x)
    for part, d in zip(torch.split(h, [8, 4], 1), (8, 4), strict=True):
        assert part.norm(dim=1).mean().item() == pytest.approx(d**0.5, rel=1e-3)
    dense = weights.encode(x).dense(48)
    pre = h @ sae.W_enc.T + sae.b_enc
    expected = torch.where(pre > weights.threshold, pre, 0)
    torch.testing.assert_close(dense, expected, atol=1e-4, rtol=1e-3)
    decoded = weights.decode(weights.encode(x), x)
    again = sae.conventions.target(decoded)
    torch.testing.assert_close(
        again, expected @ sae.W_dec + sae.shared["b_dec"], atol=1e-3, rtol=1e-3
    )
