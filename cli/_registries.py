"""What `list` prints as the value of an option: all that can be chosen, described."""

from __future__ import annotations

import re
from typing import Any

import click

from atlas.cli._output import plain_table, print_table


def list_architectures(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Callback of `--arch`: for 'list' print the registry and end."""
    if value != "list" or context.resilient_parsing:
        return value
    from atlas.ingest.training.architectures import ARCHITECTURES
    from atlas.ingest.training.architectures.settings import COMMON
    from atlas.ingest.training.sweep import STRATEGIES

    _print("--arch", [(a.name, f"{a.summary} ({a.source})") for a in ARCHITECTURES.values()])
    _print("--strategy", list(STRATEGIES.items()))
    rows = [(f"{name}={one.default:g}", one.help) for name, one in COMMON.items()]
    own = {name: one for a in ARCHITECTURES.values() for name, one in a.settings.items()}
    for name, one in own.items():
        users = ", ".join(a.name for a in ARCHITECTURES.values() if name in a.settings)
        rows.append((f"{name}={one.default:g}", f"{one.help} ({users})"))
    _print("--set", rows)
    context.exit()


def list_formats(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Callback of `--format`: for 'list' print the formats and end."""
    if value != "list" or context.resilient_parsing:
        return value
    from atlas.ingest.importing.formats import FORMATS

    _print("--format", [(f.name, f"{f.summary}: {f.looks_for}") for f in FORMATS.values()])
    context.exit()


def list_metrics(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Callback of `--metric`: the names as a tuple; for 'list' print the measures and end."""
    if value != "list" or context.resilient_parsing:
        return tuple(part.strip() for part in re.split(r",(?![^(]*\))", value))
    from atlas.compare.measures import METRICS

    _print("--metric", [(one.name, f"{one.summary} ({one.source})") for one in METRICS.values()])
    context.exit()


def list_methods(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Callback of `--method`: for 'list' print the ways to pair features and end."""
    if value != "list" or context.resilient_parsing:
        return value
    from atlas.compare.settings import METHODS

    _print("--method", list(METHODS.items()))
    context.exit()


def _print(option: str, rows: list[tuple[str, str]]) -> None:
    if not rows:
        return
    table = plain_table()
    table.add_column(option, no_wrap=True)
    table.add_column("")
    for row in rows:
        table.add_row(*row)
    print_table(table)
    click.echo()
