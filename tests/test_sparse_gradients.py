"""Gradients of the TopK family's handwritten steps, against autograd of the papers' formulas.

The formulas are written with dense activations in float64. The gradients are read off Adam's first
moments, which after one step from 0 are a tenth of them.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from atlas.ingest.training.architectures import ARCHITECTURES
from atlas.ingest.training.architectures.choice import zipf_shares
from atlas.ingest.training.trainee import Moment, Shape, TrainConfig, seeded
from atlas.workers import run_here

CPU = torch.device("cpu")
LAST = Moment(tokens=50_000, share=0.5, schedule=0.0)
"""A moment at which a step changes no parameter."""


def top_of_rows(pre, k):
    value, index = pre.topk(k, dim=1)
    return torch.zeros_like(pre).scatter(1, index, value.relu())


def top_of_all(pre, k):
    least = pre.flatten().topk(k).values.min()
    return pre * (pre >= least) * (pre > 0)


def plain_acts(architecture, p, h, sae):
    """Activations (n, d_sae) as they are written in the paper."""
    n, d_sae, config = len(h), len(p["W_enc"]), sae.config
    pre = h @ p["W_enc"].T + p["b_enc"]
    if architecture in ("topk", "transcoder", "skip-transcoder"):
        return top_of_rows(pre, config.k)
    if architecture in ("batchtopk", "matryoshka", "mutual-choice"):
        return top_of_all(pre, n * config.k)
    if architecture == "crosscoder":
        norms = sum(part.norm(dim=1) for part in p["W_dec"].split(list(sae.shape.outputs), 1))
        least = (pre * norms).flatten().topk(n * config.k).values.min()
        return pre * (pre * norms >= least) * (pre > 0)
    if architecture == "feature-choice":
        m = (zipf_shares(config.k, d_sae, sae.settings["zipf"]) * n).round().long().clamp(1, n)
        least = torch.stack([pre[:, i].topk(m[i]).values.min() for i in range(d_sae)])
        return pre * (pre >= least) * (pre > 0)
    assert architecture == "switch"
    chance = (h @ p["W_router"] + p["b_router"]).softmax(1)
    best, expert = chance.max(1)
    mine = torch.arange(d_sae) // (d_sae // chance.shape[1]) == expert[:, None]
    return top_of_rows(pre.masked_fill(~mine, -torch.inf), config.k) * best[:, None]


def plain_loss(architecture, p, h, target, sae, dead):
    """The whole loss; p: parameters by name."""
    config = sae.config
    acts = plain_acts(architecture, p, h, sae)
    skip = h @ p["W_skip"] if "W_skip" in p else 0.0

    def error(latents):
        return acts[:, :latents] @ p["W_dec"][:latents] + p["b_dec"] + skip - target

    loss = torch.stack([error(latents).square().mean() for latents in sae.prefixes]).mean()
    if architecture == "switch":
        chance = (h @ p["W_router"] + p["b_router"]).softmax(1)
        share = F.one_hot(chance.argmax(1), sae.n_experts).double().mean(0)
        loss = loss + sae.settings["balance"] * sae.n_experts * (share * chance.mean(0)).sum()
    if len(dead):
        # One token in eight of each chunk of rows.
        some = torch.cat(
            [rows[: -(-len(rows) // 8)] for rows in torch.arange(len(h)).split(sae.rows)]
        )
        pre = (h[some] @ p["W_enc"].T + p["b_enc"])[:, dead]
        value, index = pre.topk(min(sae.k_aux, len(dead)), dim=1)
        value = value + (value.relu() - value).detach()  # a ReLU with the slope 1 everywhere
        chosen = torch.zeros_like(pre).scatter(1, index, value)
        left = -error(config.d_sae)[some].detach() - chosen @ p["W_dec"][dead]
        loss = loss + config.aux_alpha * min(1, len(dead) / sae.k_aux) * left.square().mean()
    return loss


def plain_gradients(architecture, sae, x, y, dead):
    names = ("W_enc", "b_enc", "W_dec")
    p = {name: getattr(sae, name) for name in names} | sae.shared
    p = {name: tensor.detach().double().requires_grad_() for name, tensor in p.items()}
    h, target = sae.conventions.read(x).double(), sae.conventions.target(y).double()
    plain_loss(architecture, p, h, target, sae, dead).backward()
    found = {name: tensor.grad for name, tensor in p.items()}
    # What would change the length of a decoder row, which is the sum of its parts' lengths.
    parts = p["W_dec"].detach().split(list(sae.shape.outputs), 1)
    along = torch.cat([F.normalize(part, dim=1) for part in parts], 1) / len(parts) ** 0.5
    found["W_dec"] -= (found["W_dec"] * along).sum(1, keepdim=True) * along
    return found


def step_gradients(sae, x, y):
    run_here(sae.step(x, y, LAST))
    state = {name: 10 * tensor for name, tensor in sae.state().items() if ".first." in name}
    found = {"W_enc": "encoder0.first.0", "b_enc": "encoder0.first.1", "W_dec": "decoder0.first.0"}
    found |= {name: f"shared.first.{i}" for i, name in enumerate(sae.shared)}
    return {name: state[key] for name, key in found.items()}


@st.composite
def cases(draw):
    experts = draw(st.integers(1, 4))
    size = draw(st.integers(2, 20))
    return {
        "n": draw(st.sampled_from([1, 2, 7, 64, 500, 1300])),
        "d_in": draw(st.integers(2, 16)),
        "d_sae": experts * size,
        "experts": experts,
        "k": draw(st.integers(1, size)),
        "n_dead": draw(st.integers(0, experts * size)),
        "seed": draw(st.integers(0, 1000)),
    }


def make(architecture, case):
    reads, d = ARCHITECTURES[architecture].reads, case["d_in"]
    shape = {
        "itself": Shape((d,), (d,), same=True),
        "another": Shape((d,), (d // 2 + 1,), same=False),
        "several": Shape((d, d // 2 + 1), (d, d // 2 + 1), same=True),
    }[reads]
    own = {"experts": case["experts"]} if architecture == "switch" else {}
    config = TrainConfig(
        d_sae=case["d_sae"],
        k=case["k"],
        train_tokens=100_000,
        architecture=architecture,
        clip=1e9,
        settings=own,
    )
    return ARCHITECTURES[architecture].make(shape, config, seeded(case["seed"]), CPU)


FAMILY = (
    "topk",
    "batchtopk",
    "matryoshka",
    "switch",
    "feature-choice",
    "mutual-choice",
    "transcoder",
    "skip-transcoder",
    "crosscoder",
)


@pytest.mark.parametrize("architecture", FAMILY)
@given(case=cases())
@settings(max_examples=15, deadline=None)
def test_gradients_equal_autograd(architecture, case):
    sae = make(architecture, case)
    g = torch.Generator().manual_seed(case["seed"])
    x = torch.randn(case["n"], sae.shape.d_in, generator=g) * 3 + 1
    y = x if sae.shape.same else torch.randn(case["n"], sae.shape.d_out, generator=g) * 2 - 1
    sae.begin(x, y)
    for p in (sae.W_enc, sae.b_enc, sae.W_dec, *sae.shared.values()):
        p.add_(torch.randn(p.shape, generator=g) / 4)
    sae.W_dec.div_(sae.lengths(sae.W_dec))
    dead = torch.randperm(case["d_sae"], generator=g)[: case["n_dead"]].sort().values
    sae.idle[dead] = sae.config.dead_after() + 1
    expected = plain_gradients(architecture, sae, x, y, dead)
    for name, gradient in step_gradients(sae, x, y).items():
        close = 2e-4 * expected[name].abs().max().item() + 1e-6
        torch.testing.assert_close(
            gradient.double(), expected[name], atol=close, rtol=1e-3, msg=f"{name}: {case}"
        )
