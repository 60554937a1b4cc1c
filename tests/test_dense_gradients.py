"""Dense architectures: their gradients against the losses as the papers write them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from atlas.ingest.training.architectures.dense_step import Step
from atlas.ingest.training.architectures.jumprelu import StraightThrough
from atlas.workers import run_here
from tests.dense import ARCHITECTURES, make, one_thread  # noqa: F401

LAMBDA = 0.3


def rectangle(x: Tensor) -> Tensor:
    return (x.abs() < 0.5).to(x)


class Jump(torch.autograd.Function):
    """Equations 11 and 12 of Rajamanoharan et al. 2024b, term by term, for a whole matrix."""

    @staticmethod
    def forward(ctx, pre, theta, width):
        ctx.save_for_backward(pre, theta)
        ctx.width = width
        return pre * (pre > theta), (pre > theta).to(pre)

    @staticmethod
    def backward(ctx, by_acts, by_step):
        pre, theta = ctx.saved_tensors
        kernel = rectangle((pre - theta) / ctx.width) / ctx.width
        by_theta = -theta * kernel * by_acts - kernel * by_step
        return (pre > theta) * by_acts, by_theta.sum(0), None


class Prolu(torch.autograd.Function):
    """ProLU_STE of Taggart 2024, for a whole matrix."""

    @staticmethod
    def forward(ctx, z, b):
        active = (z > 0) & (z + b > 0)
        ctx.save_for_backward(z, active)
        return z * active

    @staticmethod
    def backward(ctx, by_acts):
        z, active = ctx.saved_tensors
        return by_acts * active * (1 + z), (by_acts * active * z).sum(0)


def forward(
    name: str, sae, z: Tensor, p: dict[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Activations (n, d_sae), the penalty of each token, and the gate."""
    if name.startswith("standard"):
        acts = (z + p["b_enc"]).relu()
        return acts, (acts * p["W_dec"].norm(dim=1)).sum(1), None
    if name == "p-anneal":
        acts = (z + p["b_enc"]).relu()
        power = sae._power(0.5)
        return acts, torch.where(acts > 0, acts.clamp_min(1e-3), 0).pow(power).sum(1), None
    if name == "gated":
        gate = z + p["b_gate"]
        acts = (gate > 0) * (z * p["r_mag"].exp() + p["b_mag"]).relu()
        return acts, gate.relu().sum(1), gate.relu()
    if name == "prolu":
        acts = Prolu.apply(z, p["b"])
        return acts, acts.sum(1), None
    acts, step = Jump.apply(z + p["b_enc"], p["log_threshold"].exp(), sae.settings["bandwidth"])
    scale = sae.settings["tanh"]
    return acts, ((scale * acts).tanh() if scale else step).sum(1), None


@st.composite
def cases(draw):
    return {
        "name": draw(st.sampled_from([*ARCHITECTURES])),
        "n": draw(st.sampled_from([1, 3, 40, 600])),
        "d": draw(st.integers(1, 12)),
        "d_out": draw(st.sampled_from([None, 1, 7])),
        "d_sae": draw(st.integers(1, 60)),
        "seed": draw(st.integers(0, 1000)),
    }


@given(cases())
@settings(max_examples=80, deadline=None)
def test_gradients_are_those_of_the_papers_losses(case):
    name, n, seed = case["name"], case["n"], case["seed"]
    sae = make(name, case["d"], case["d_sae"], 1, d_out=case["d_out"], seed=seed,
               clip=1e9, settings={"coefficient": LAMBDA, "sparsity_warmup": 0})  # fmt: skip
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, case["d"], generator=g) * 3 + 1
    y = x if case["d_out"] is None else torch.randn(n, case["d_out"], generator=g) - 2
    sae.begin(x, y)
    for tensor in (sae.W_enc, sae.W_dec, sae.b_dec, *sae.latents.values()):
        tensor.add_(torch.randn(tensor.shape, generator=g) / 4)
    if sae.unit_norm:
        sae.W_dec.copy_(F.normalize(sae.W_dec, dim=1))

    step = Step(sae, x, y, sae.config.moment(sae.config.train_tokens // 2))
    for begin in range(0, n, sae.rows):
        step.code_and_differentiate(begin)
    step.gather()
    step.encoder_gradients()
    step.decoder_gradients()
    names = ["W_enc", *sae.latents, "W_dec", "b_dec"]
    found = dict(zip(names, step.by_encoder + step.by_decoder, strict=True))

    p = {k: v.double().clone().requires_grad_() for k, v in sae.latents.items()}
    p |= {k: getattr(sae, k).double().clone().requires_grad_() for k in ("W_enc", "W_dec", "b_dec")}
    h, t = sae.conventions.read(x).double(), sae.conventions.target(y).double()
    acts, penalty, gate = forward(name, sae, h @ p["W_enc"].T, p)
    loss = (acts @ p["W_dec"] + p["b_dec"] - t).square().sum(1).mean() + LAMBDA * penalty.mean()
    if gate is not None:
        frozen = gate @ p["W_dec"].detach() + p["b_dec"].detach()
        loss = loss + (frozen - t).square().sum(1).mean()
    loss.backward()
    if sae.unit_norm:
        W, by_W = p["W_dec"].detach(), p["W_dec"].grad
        by_W -= (by_W * W).sum(1, keepdim=True) * W
    for key, gradient in found.items():
        expected = torch.zeros_like(p[key]) if p[key].grad is None else p[key].grad
        close = 1e-4 * expected.abs().max().item() + 1e-6
        torch.testing.assert_close(gradient.double(), expected, atol=close, rtol=1e-3, msg=key)


@pytest.mark.parametrize("by", ["acts", "l0"])
def test_kernel_gradient_is_the_slope_of_the_mean(by):
    """Over many tokens, the mean of a jump is smooth; its slope is what the kernel estimates."""
    g = torch.Generator().manual_seed(0)
    pre = torch.randn(400_000, generator=g, dtype=torch.float64) + 1
    theta, width = 0.8, 0.2

    def mean(at: float) -> float:
        active = pre > at
        return ((pre if by == "acts" else 1.0) * active).mean().item()

    slope = (mean(theta + width / 2) - mean(theta - width / 2)) / width
    threshold = torch.full_like(pre, theta).requires_grad_()
    acts, active = StraightThrough.apply(pre, threshold, width, False)
    (acts if by == "acts" else active).mean().backward()
    assert threshold.grad.sum().item() == pytest.approx(slope, rel=0.01)


def test_kernel_gradient_reaches_the_encoder_where_asked():
    pre = torch.tensor([0.99, 1.01, 2.0], requires_grad=True)
    theta = torch.ones(3, requires_grad=True)
    acts, active = StraightThrough.apply(pre, theta, 0.1, True)
    (acts.sum() + 2 * active.sum()).backward()
    torch.testing.assert_close(pre.grad, torch.tensor([30.0, 31.0, 1.0]))
    torch.testing.assert_close(theta.grad, torch.tensor([-30.0, -30.0, 0.0]))


@pytest.mark.parametrize("name", [*ARCHITECTURES])
def test_another_loss_takes_the_place_of_the_square_error(name):
    """Asked for the square error's own gradient, in the model's units, it makes the same step."""
    x = torch.randn(700, 9, generator=torch.Generator().manual_seed(0)) * 4 + 1
    saes = [make(name, 9, 40, 3) for _ in range(2)]
    asked = []
    for sae in saes:
        sae.begin(x, x)

    def by_output(y_hat: Tensor) -> Tensor:
        asked.append(y_hat.shape)
        scale = saes[1].conventions.output_scale[0].item()
        return 2 * scale**2 * (y_hat - x) / len(x)

    for i in range(3):
        run_here(saes[0].step(x, x, saes[0].config.moment(i * 700)))
        run_here(saes[1].step(x, x, saes[1].config.moment(i * 700), by_output))
    assert asked == [x.shape] * 3
    for key, tensor in saes[0].state().items():
        torch.testing.assert_close(saes[1].state()[key], tensor, atol=2e-3, rtol=1e-2, msg=key)
