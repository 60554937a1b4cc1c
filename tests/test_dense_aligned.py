"""Feature-aligned training: the penalty's gradient, its effect, and that it can be gone on with."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from atlas.ingest.training.architectures import ARCHITECTURES as REGISTRY
from atlas.ingest.training.architectures.aligned import Aligned
from atlas.ingest.training.trainee import Shape, TrainConfig, seeded
from atlas.workers import run_here, run_lanes
from tests.dense import CPU, one_thread, planted  # noqa: F401

STEPS, BATCH = 100, 512


def group(architecture: str, coefficient: float, n: int = 2, **options) -> Aligned:
    members = []
    for seed in range(n):
        config = TrainConfig(d_sae=48, k=4, train_tokens=STEPS * BATCH, batch_tokens=BATCH,
                             architecture=architecture, seed=seed, **options)  # fmt: skip
        shape = Shape((16,), (16,), same=True)
        members.append(REGISTRY[architecture].make(shape, config, seeded(seed), CPU))
    return Aligned(members, coefficient)


def train(aligned: Aligned, steps: int, first: int = 0, run=run_here) -> None:
    if not first:
        x = planted(4096, seed=10**6)
        aligned.begin(x, x)
    for i in range(first, steps):
        x = planted(BATCH, seed=i)
        run(aligned.step(x, x, aligned.members[0].config.moment(i * BATCH)))


def penalty(decoders: list[torch.Tensor]) -> torch.Tensor:
    """As it is written, from all cosines."""
    units = [F.normalize(W, dim=1) for W in decoders]
    pairs = [(a, b) for a in units for b in units if a is not b]
    return 1 - torch.stack([(a @ b.T).max(1).values.mean() for a, b in pairs]).mean()


@pytest.mark.parametrize("n", [2, 3])
def test_gradient_is_the_penaltys(n):
    aligned = group("standard", 0.7, n)
    g = torch.Generator().manual_seed(0)
    for member in aligned.members:
        member.W_dec.copy_(torch.randn(member.W_dec.shape, generator=g))
    stages = aligned.step(planted(10), planted(10), aligned.members[0].config.moment(0))
    for _ in range(2):
        for job in next(stages):
            job()
    decoders = [member.W_dec.double().requires_grad_() for member in aligned.members]
    (0.7 * penalty(decoders)).backward()
    for member, decoder in zip(aligned.members, decoders, strict=True):
        torch.testing.assert_close(member.by_W_dec.double(), decoder.grad, atol=1e-7, rtol=1e-4)
    assert 1 - aligned.report()["agreement"] == pytest.approx(penalty(decoders).item(), abs=1e-5)


@pytest.mark.parametrize("architecture", ["standard", "gated", "topk"])
def test_members_agree_more(architecture):
    agreement, explained = [], []
    for coefficient in (0.0, 0.3):
        aligned = group(architecture, coefficient)
        train(aligned, STEPS)
        agreement.append(aligned.report()["agreement"])
        explained.append(aligned.members[0].report()["explained_variance"])
    assert agreement[1] > agreement[0] + 0.02
    assert explained[1] > explained[0] - 0.05


def test_goes_on_to_the_bit_with_any_number_of_threads():
    whole, first, second = (group("jumprelu", 0.3) for _ in range(3))
    train(whole, 30)
    train(first, 13)
    second.restore({name: tensor.clone() for name, tensor in first.state().items()})
    torch.set_num_threads(2)
    train(second, 30, first=13, run=lambda stages: run_lanes([stages]))
    for name, tensor in whole.state().items():
        assert torch.equal(second.state()[name], tensor), name
