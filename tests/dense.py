"""Dense architectures to train in tests, and data with planted features."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from atlas.ingest.training.architectures import ARCHITECTURES as REGISTRY
from atlas.ingest.training.architectures.dense import Dense
from atlas.ingest.training.trainee import Shape, TrainConfig, seeded
from atlas.workers import run_here

CPU = torch.device("cpu")

ARCHITECTURES: dict[str, dict[str, float]] = {
    "standard": {},
    "standard, unit norm": {"unit_norm": 1},
    "gated": {},
    "jumprelu": {},
    "jumprelu, tanh": {"tanh": 2},
    "prolu": {},
    "p-anneal": {},
}
"""Architectures and their settings, by what tests call them."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The tensors are too small to be shared between threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(name: str, d: int, d_sae: int, k: int, *, d_out: int | None = None, **options) -> Dense:
    """One that has not begun; d_out: of a transcoder; options: `TrainConfig`'s."""
    shape = Shape((d,), (d if d_out is None else d_out,), d_out is None)
    architecture = name.partition(",")[0]
    chosen = ARCHITECTURES[name] | options.pop("settings", {})
    options = {"train_tokens": 100_000, "architecture": architecture, "settings": chosen} | options
    config = TrainConfig(d_sae=d_sae, k=k, **options)
    sae = REGISTRY[architecture].make(shape, config, seeded(config.seed, "test"), CPU)
    assert isinstance(sae, Dense)
    return sae


def directions(d: int, n_features: int) -> Tensor:
    """The planted features: unit vectors (n_features, d)."""
    return F.normalize(torch.randn(n_features, d, generator=torch.Generator().manual_seed(1)))


def planted(n: int, d: int = 16, n_features: int = 32, active: int = 3, seed: int = 0) -> Tensor:
    """Sums (n, d) of a few of them, off centre."""
    g = torch.Generator().manual_seed(seed)
    chosen = torch.rand(n, n_features, generator=g).topk(active, dim=1).indices
    strength = 1 + torch.rand(n, active, generator=g)
    sums = F.embedding_bag(
        chosen, directions(d, n_features), per_sample_weights=strength, mode="sum"
    )
    return 3 * sums + 1


def train(sae: Dense, steps: int, batch: int = 512, first: int = 0, **data) -> None:
    """Steps number `first` to `steps` - 1 on planted data, a batch of its own to each."""
    if not first:
        x = planted(4096, sae.shape.d_in, seed=10**6, **data)
        sae.begin(x, x)
    for i in range(first, steps):
        x = planted(batch, sae.shape.d_in, seed=i, **data)
        run_here(sae.step(x, x, sae.config.moment(i * batch)))
