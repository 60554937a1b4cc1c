"""A peer's training of a dense SAE on stored activations, at several coefficients, in a process.

python dense_peers.py TASK.json     prints one line of JSON: [[knob, L0, explained variance], …]

Each peer's own trainer does the steps, on activations that are centred and of a mean norm of √d.
The knob that decides its L0 is turned until L0 lies on both sides of what is wanted, or near it.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

Trained = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From activations to activations of latents, and reconstructions."""


@dataclass(frozen=True)
class Task:
    """What shall be trained."""

    library: str
    architecture: str
    activations: str
    """A .pt file: float32 (n, d), shuffled, normalised."""
    n_held_out: int
    """The first of them, on which quality is measured."""
    d_sae: int
    steps: int
    batch: int
    lr: float
    knob: float
    """What to begin with."""
    l0: float
    """What is wanted."""
    most_runs: int


def data(task: Task, x: Tensor) -> Iterator[Tensor]:
    """The batches, in the same order for everyone."""
    order = torch.arange(task.n_held_out, len(x))
    for i in range(task.steps):
        at = torch.arange(i * task.batch, (i + 1) * task.batch) % len(order)
        yield x[order[at]]


def saelens(task: Task, x: Tensor, knob: float) -> Trained:
    """SAELens's training classes in its trainer; the knob is the coefficient."""
    import sae_lens
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    kind, coefficient = {
        "standard": ("Standard", "l1"),
        "gated": ("Gated", "l1"),
        "jumprelu": ("JumpReLU", "l0"),
    }[task.architecture]
    config = getattr(sae_lens, f"{kind}TrainingSAEConfig")(
        d_in=x.shape[1],
        d_sae=task.d_sae,
        **{f"{coefficient}_coefficient": knob, f"{coefficient}_warm_up_steps": task.steps // 20},
    )
    sae = getattr(sae_lens, f"{kind}TrainingSAE")(config)
    settings = SAETrainerConfig(
        n_checkpoints=0,
        checkpoint_path=None,
        save_final_checkpoint=False,
        total_training_samples=task.steps * task.batch,
        device="cpu",
        autocast=False,
        lr=task.lr,
        lr_end=task.lr / 10,
        lr_scheduler_name="constant",
        lr_warm_up_steps=task.steps // 20,
        adam_beta1=0.9,
        adam_beta2=0.999,
        lr_decay_steps=task.steps * 3 // 10,
        n_restart_cycles=1,
        train_batch_size_samples=task.batch,
        dead_feature_window=task.steps,
        feature_sampling_window=task.steps,
        logger=LoggingConfig(log_to_wandb=False),
    )
    SAETrainer(settings, sae, data(task, x)).fit()

    def trained(x: Tensor) -> tuple[Tensor, Tensor]:
        acts = sae.encode(x)
        return acts, sae.decode(acts)

    return trained


def dictionary_learning(task: Task, x: Tensor, knob: float) -> Trained:
    """dictionary_learning's trainers; the knob is the coefficient, or JumpReLU's target of L0."""
    from dictionary_learning.trainers.gdm import GatedSAETrainer
    from dictionary_learning.trainers.jumprelu import JumpReluTrainer
    from dictionary_learning.trainers.p_anneal import PAnnealTrainer
    from dictionary_learning.trainers.standard import StandardTrainerAprilUpdate

    kind, settings = {
        "standard": (StandardTrainerAprilUpdate, {"l1_penalty": knob}),
        "gated": (GatedSAETrainer, {"l1_penalty": knob}),
        "jumprelu": (JumpReluTrainer, {"target_l0": knob}),
        "p-anneal": (
            PAnnealTrainer,
            {
                "initial_sparsity_penalty": knob,
                "sparsity_function": "Lp^p",
                "anneal_start": task.steps // 10,
                "p_end": 0.2,
            },
        ),
    }[task.architecture]
    trainer = kind(
        steps=task.steps,
        activation_dim=x.shape[1],
        dict_size=task.d_sae,
        layer=0,
        lm_name="",
        lr=task.lr,
        warmup_steps=task.steps // 20,
        sparsity_warmup_steps=task.steps // 20,
        decay_start=task.steps * 7 // 10,
        device="cpu",
        seed=0,
        **settings,
    )
    for i, batch in enumerate(data(task, x)):
        trainer.update(i, batch)

    def trained(x: Tensor) -> tuple[Tensor, Tensor]:
        reconstructed, acts = trainer.ae(x, output_features=True)
        return acts, reconstructed

    return trained


LIBRARIES = {"SAELens": saelens, "dictionary_learning": dictionary_learning}


def turned(task: Task, measure: Callable[[float], tuple[float, float]]) -> list[list[float]]:
    """[knob, L0, explained variance] of each training.

    L0 is taken for a power of the knob, by the two trainings that are nearest to what is wanted.
    """
    found: list[list[float]] = []
    knob = task.knob
    for _ in range(task.most_runs):
        found.append([knob, *measure(knob)])
        found.sort(key=lambda one: abs(math.log(max(one[1], 1e-3) / task.l0)))
        off = [one[1] / task.l0 - 1 for one in found[:2]]
        if abs(off[0]) < 0.01 or (off[0] * off[-1] < 0 and abs(off[-1]) < 0.1):
            break
        slope = 1.0 if task.architecture == "jumprelu" and task.library != "SAELens" else -1.0
        if len(found) > 1:
            (a, l0_a, _), (b, l0_b, _) = found[:2]
            slope = math.log(max(l0_b, 1e-3) / max(l0_a, 1e-3)) / math.log(b / a) or slope
        # A little further than where it seems to be, so that it ends up between two.
        turn = 1.1 * math.log(task.l0 / max(found[0][1], 1e-3)) / slope
        knob = found[0][0] * math.exp(max(-1.5, min(1.5, turn)))
    return found


def main() -> None:
    """Train and measure."""
    task = Task(**json.loads(Path(sys.argv[1]).read_text()))
    x = torch.load(task.activations)
    held_out = x[: task.n_held_out]

    def measure(knob: float) -> tuple[float, float]:
        torch.manual_seed(0)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            trained = LIBRARIES[task.library](task, x, knob)
        with torch.no_grad():
            acts, found = trained(held_out)
        left = (held_out - found).square().sum() / (held_out - held_out.mean(0)).square().sum()
        return float((acts > 0).sum()) / len(held_out), 1 - float(left)

    print(json.dumps(turned(task, measure)), flush=True)
    os._exit(0)  # without waiting for threads that a library leaves behind


if __name__ == "__main__":
    main()
