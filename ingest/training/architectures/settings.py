"""Numbers that tune a training: what `--set` may name, for every architecture or for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atlas.errors import BadInput
from atlas.ingest.training.trainee import TrainConfig


@dataclass(frozen=True)
class Setting:
    """A number that is given by `--set NAME=VALUE`."""

    default: float
    help: str


def chosen(settings: Mapping[str, Setting], config: TrainConfig) -> dict[str, float]:
    """Every setting's value; BadInput where the configuration names others."""
    unknown = sorted(set(config.settings) - set(settings))
    if unknown:
        raise BadInput(
            f"The architecture {config.architecture!r} has no setting {', '.join(unknown)}; it has "
            f"{', '.join(settings) or 'none'}."
        )
    return {name: setting.default for name, setting in settings.items()} | dict(config.settings)


def _common(name: str, help: str) -> Setting:
    return Setting(float(getattr(TrainConfig, name)), help)


COMMON: Mapping[str, Setting] = {
    "lr": _common("lr", "how far Adam turns a direction in one step, with 1,024 latents"),
    "warmup": _common("warmup", "share of the training in which the rate rises"),
    "decay": _common("decay", "share of the training, at its end, in which it falls to 0"),
    "clip": _common("clip", "greatest length of all gradients together; 0: the architecture's own"),
    "aux_alpha": _common("aux_alpha", "weight of AuxK, which revives dead latents (TopK family)"),
    "dead_share": _common(
        "dead_share", "share of the training after which a silent latent is dead"
    ),
    "batch_tokens": _common("batch_tokens", "most tokens to a step"),
}
"""Those of `TrainConfig`, which every architecture has."""
