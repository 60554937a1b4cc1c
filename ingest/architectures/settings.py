"""Numbers that one architecture has and others have not: their defaults, help and values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atlas.errors import BadInput
from atlas.ingest.trainee import TrainConfig


@dataclass(frozen=True)
class Setting:
    """A number that one architecture has and others have not, given by `--set NAME=VALUE`."""

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
