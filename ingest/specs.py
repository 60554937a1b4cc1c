"""What a plan's training trains: a dictionary for each SAE, or one that layers share, or pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from atlas.ingest.models.sites import HookPoint
from atlas.ingest.plan import Plan, PlannedSae
from atlas.ingest.prepare import Prepared, sites_of
from atlas.ingest.text.tokens import TokenStream
from atlas.ingest.training.architectures.settings import COMMON
from atlas.ingest.training.layer_groups import similar_layers
from atlas.ingest.training.state import Spec
from atlas.ingest.training.sweep import parse_strategy
from atlas.ingest.training.trainee import TrainConfig


def specs_of(prepared: Prepared, stream: TokenStream) -> tuple[list[Spec], dict[str, str]]:
    """The specs, and for each `PlannedSae.key` the name in the training of what it will be.

    stream: the reference corpus, on which layers are compared that may share a dictionary.
    """
    plan = prepared.plan
    strategy = parse_strategy(plan.strategy)
    if strategy is not None and strategy.name == "layer-group":
        points = tuple(dict.fromkeys(HookPoint(*sae.inputs[0]) for sae in plan.saes))
        groups = similar_layers(prepared.model, points, round(strategy.value), stream, plan.context)
        return _shared(plan, groups)
    if strategy is not None and strategy.name == "feature-aligned":
        return _aligned(plan, strategy.value)
    specs = [Spec(sae.key, (sites_of(sae),), _config(plan, sae)) for sae in plan.saes]
    return specs, {sae.key: sae.key for sae in plan.saes}


def _shared(plan: Plan, groups: list[tuple[HookPoint, ...]]) -> tuple[list[Spec], dict[str, str]]:
    """One dictionary of a kind for the layers of each group."""
    specs: list[Spec] = []
    names: dict[str, str] = {}
    for group in groups:
        here = [sae for sae in plan.saes if HookPoint(*sae.inputs[0]) in group]
        for saes in _grouped(here, lambda sae: (sae.name.hook, sae.name.variant)):
            kind = f"{saes[0].name.hook}-{saes[0].name.variant}"
            key = f"{group[0].layer}to{group[-1].layer}-{kind}"
            specs.append(Spec(key, tuple(map(sites_of, saes)), _config(plan, saes[0])))
            names |= {sae.key: key for sae in saes}
    return specs, names


def _aligned(plan: Plan, weight: float) -> tuple[list[Spec], dict[str, str]]:
    """Those that differ by their seeds alone train together."""
    specs = []
    for saes in _grouped(plan.saes, lambda sae: (sae.inputs, sae.arch, sae.d_sae, sae.k)):
        keys = tuple(sae.key for sae in saes)
        sites, config = sites_of(saes[0]), _config(plan, saes[0])
        specs.append(Spec(keys[0], (sites,), config, aligned=keys, alignment=weight))
    return specs, {sae.key: sae.key for sae in plan.saes}


def _grouped(
    saes: Iterable[PlannedSae], kind: Callable[[PlannedSae], object]
) -> list[list[PlannedSae]]:
    found: dict[object, list[PlannedSae]] = {}
    for sae in saes:
        found.setdefault(kind(sae), []).append(sae)
    return list(found.values())


def _config(plan: Plan, sae: PlannedSae) -> TrainConfig:
    assert plan.train_tokens is not None
    assert sae.k is not None
    own = {name: value for name, value in sae.settings if name not in COMMON}
    common: dict[str, Any] = {name: value for name, value in sae.settings if name in COMMON}
    if "batch_tokens" in common:
        common["batch_tokens"] = round(common["batch_tokens"])
    return TrainConfig(
        architecture=sae.arch,
        d_sae=sae.d_sae,
        k=sae.k,
        train_tokens=plan.train_tokens,
        seed=plan.seed,
        settings=own,
        **common,
    )
