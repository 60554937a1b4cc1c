"""Training dense architectures: what is stored, L0, reproducibility, quality, dead latents."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from atlas.errors import BadInput
from atlas.ingest.training.architectures.dense_step import Step
from atlas.ingest.training.architectures.sparsity import MOVING, SHRINKING, Sparsity
from atlas.workers import run_here, run_lanes
from tests.dense import ARCHITECTURES, directions, make, one_thread, planted, train  # noqa: F401

NAMES = [*ARCHITECTURES]
STEPS, BATCH = 300, 512
WHOLE = {"train_tokens": STEPS * BATCH, "batch_tokens": BATCH}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("d_out", [None, 7])
def test_what_is_stored_computes_what_was_trained(name, d_out):
    sae = make(name, 16, 64, 4, d_out=d_out, **WHOLE)
    x = planted(1500)
    y = x if d_out is None else (x**2)[:, :7] - 3
    sae.begin(x, y)
    for i in range(20):
        run_here(sae.step(x, y, sae.config.moment(i * BATCH)))

    step = Step(sae, x, y, sae.config.moment(0))
    for begin in range(0, len(x), sae.rows):
        step.code(begin)
    trained = step.t + step.error + sae.conventions.centre
    weights = sae.weights()
    code = weights.encode(x)
    decoded = weights.decode(code, x) * weights.output_scale
    # An activation at the very threshold may be on its other side after folding.
    close = ((decoded - trained).abs() < 1e-5 * trained.abs().clamp_min(1)).all(1)
    assert close.float().mean() > 0.998
    torch.testing.assert_close(weights.W_dec.norm(dim=1), torch.ones(64))
    part = step._parts[0]
    n_active = (part.found.acts > 0).sum().item()
    assert abs(n_active - (code.offset[sae.rows] - code.offset[0]).item()) <= 2


@pytest.mark.parametrize("name", NAMES)
def test_l0_is_what_was_asked_for_and_features_are_found(name):
    sae = make(name, 16, 64, 4, **WHOLE)
    train(sae, STEPS, BATCH)
    weights, unseen = sae.weights(), planted(4000, seed=10**7)
    code = weights.encode(unseen)
    l0 = (code.value > 0).sum().item() / len(unseen)
    assert l0 == pytest.approx(4, rel=0.1)
    left = (unseen - weights.decode(code, unseen)).square().sum()
    assert 1 - left / (unseen - unseen.mean(0)).square().sum() > 0.75

    # Mean of the greatest cosines (Sharkey et al. 2022) with what was planted, and by chance.
    features = directions(16, 32)
    found = (features @ weights.W_dec.T).max(1).values.mean().item()
    g = torch.Generator().manual_seed(5)
    chance = F.normalize(torch.randn(64, 16, generator=g), dim=1)
    assert found > (features @ chance.T).max(1).values.mean().item() + 0.2


@pytest.mark.parametrize("name", NAMES)
def test_steps_do_not_depend_on_how_their_jobs_run(name):
    saes = [make(name, 12, 96, 5, **WHOLE) for _ in range(3)]
    for sae, threads in zip(saes, (0, 1, 2), strict=True):
        torch.set_num_threads(threads or 1)
        x = planted(3000, 12)
        run_lanes([iter([[lambda sae=sae, x=x: sae.begin(x, x)]])])
        for i in range(4):
            step = sae.step(x[i : i + 1300], x[i : i + 1300], sae.config.moment(i * BATCH))
            run_lanes([step]) if threads else run_here(step)
    states = [sae.state() for sae in saes]
    for key, tensor in states[0].items():
        assert torch.equal(states[1][key], tensor), key
        assert torch.equal(states[2][key], tensor), key


@pytest.mark.parametrize("name", NAMES)
def test_goes_on_to_the_bit(name):
    options = WHOLE | {"settings": {"resample": 8}, "dead_share": 0.01}
    whole, first, second = (make(name, 16, 64, 4, **options) for _ in range(3))
    train(whole, 60, BATCH)
    train(first, 35, BATCH)
    second.restore({key: tensor.clone() for key, tensor in first.state().items()})
    train(second, 60, BATCH, first=35)
    for key, tensor in whole.state().items():
        assert torch.equal(second.state()[key], tensor), key


def test_resampling_revives_dead_latents():
    dead, explained = [], []
    for times in (0, 4):
        settings = {"unit_norm": 1, "resample": times}
        sae = make("standard", 16, 64, 4, dead_share=0.02, settings=settings, **WHOLE)
        x = planted(4096, seed=10**6)
        sae.begin(x, x)
        sae.latents["b_enc"][:40] = -100
        for i in range(STEPS):
            x = planted(BATCH, seed=i)
            run_here(sae.step(x, x, sae.config.moment(i * BATCH)))
            if i == STEPS // 2:
                dead.append(sae.report()["dead_share"])
        explained.append(sae.report()["explained_variance"])
    assert dead[0] > 0.6 > 0.2 > dead[1]
    assert explained[1] > explained[0] + 0.03


def test_idle_counts_tokens_since_a_latent_was_active():
    sae = make("standard", 16, 64, 4, **WHOLE)
    x = planted(1000)
    sae.begin(x, x)
    sae.latents["b_enc"][:10] = -1e6
    for _ in range(3):
        run_here(sae.step(x, x, sae.config.moment(0)))
    assert sae.idle[:10].tolist() == [3000] * 10
    assert (sae.idle[10:] == 0).float().mean() > 0.5


def test_a_coefficient_that_is_given_is_kept():
    settings = {"coefficient": 0.7, "sparsity_warmup": 0.5}
    sae = make("standard", 16, 64, 4, settings=settings, **WHOLE)
    assert [sae.sparsity.at(share) for share in (0, 0.25, 0.5, 1)] == [0, 0.35, 0.7, 0.7]
    train(sae, 20, BATCH)
    report = sae.report()
    assert report["coefficient"] == 0.7
    assert set(report) >= {"explained_variance", "l0", "loss", "dead_share"}
    assert all(math.isnan(sae.report()[name]) for name in ("explained_variance", "l0", "loss"))


@pytest.mark.parametrize("delay", [1, 10, 30])
@pytest.mark.parametrize("slope", [-0.4, -1.0, -1.6])
def test_steering_is_stable_where_l0_answers_at_once(delay, slope):
    """L0 goes towards a power of the coefficient, a share 1 / delay of the way (in logs) a step."""
    sparsity, log_l0, seen = begun(SHRINKING), math.log(64), []
    for i in range(600):
        goal = math.log(16) + slope * math.log(max(sparsity.at(i / 600), 1e-3) / 0.8)
        log_l0 += (goal - log_l0) / delay
        seen.append(math.exp(log_l0))
        sparsity.saw(seen[-1], i / 600)
    assert all(l0 == pytest.approx(16, rel=0.05) for l0 in seen[-100:])


@pytest.mark.parametrize("needed", [0.03, 0.1, 0.5])
@pytest.mark.parametrize("speed", [0.01, 0.03])
def test_steering_is_stable_where_thresholds_move(needed, speed):
    """L0 falls at a speed that depends on how far the coefficient is above what is needed."""
    sparsity, log_l0, seen = begun(MOVING), math.log(64), []
    for i in range(600):
        log_l0 -= speed * math.tanh(sparsity.at(i / 600) / needed - 1)
        seen.append(math.exp(log_l0))
        sparsity.saw(seen[-1], i / 600)
    assert all(l0 == pytest.approx(16, rel=0.07) for l0 in seen[-100:])


def begun(steering) -> Sparsity:
    sparsity = Sparsity(steering, wanted=16, first=64, warmup=0.2, fixed=0)
    sparsity.begin(0.1)
    return sparsity


def test_constant_activations_are_no_trouble():
    for name in NAMES:
        sae = make(name, 12, 40, 4)
        x = torch.ones(100, 12)
        sae.begin(x, x)
        run_here(sae.step(x, x, sae.config.moment(0)))
        assert all(tensor.isfinite().all() for tensor in sae.state().values()), name


def test_settings_of_another_architecture_are_refused():
    with pytest.raises(BadInput, match="has no setting bandwidth; it has coefficient"):
        make("gated", 12, 40, 4, settings={"bandwidth": 1})
