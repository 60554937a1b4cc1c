"""Arguments and options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from atlas.store import Atlas

F = TypeVar("F", bound=Callable[..., Any])

VARIABLE = "ATLAS"
"""Environment variable that names the atlas where the argument is left out."""


class AtlasCommand(click.Command):
    """A command whose first argument, ATLAS, may be left out where $ATLAS is set.

    The first word is still taken as the atlas if it is an existing file, ends in `.atlas`, or is
    one more than the other arguments can hold.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        """Command lines shown below `--help`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        variable = os.environ.get(VARIABLE)
        if variable and not self._names_atlas(ctx, args):
            # A path that begins with a dash would be read as an option.
            args = [f"./{variable}" if variable[0] == "-" else variable, *args]
        return super().parse_args(ctx, args)

    def _names_atlas(self, ctx: click.Context, args: list[str]) -> bool:
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        arguments = [p for p in self.params if isinstance(p, click.Argument)][1:]
        probe = click.Command(None, params=list(options), add_help_option=False)
        settings: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True}
        with probe.make_context(None, list(args), resilient_parsing=True, **settings) as probed:
            words = probed.args
        room = sum(p.nargs for p in arguments)
        endless = any(p.nargs < 0 for p in arguments)
        return bool(words) and (
            words[0].endswith(".atlas")
            or Path(words[0]).is_file()
            or (len(words) > room and not endless)
        )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")


def atlas_argument(function: F) -> F:
    """The argument ATLAS, given to the command as `atlas_path`."""
    return click.argument("atlas_path", metavar="ATLAS", type=click.Path(path_type=Path))(function)


def wait_option(function: F) -> F:
    """`--wait SECONDS`: patience with another process that writes the atlas."""
    return click.option(
        "--wait",
        type=click.FloatRange(min=0),
        default=0.0,
        metavar="SECONDS",
        show_default=False,
        help="Wait this long while another process holds the atlas.",
    )(function)


def within_option(function: F) -> F:
    """`--within NAME`: one model or one SAE instead of the whole atlas."""
    return click.option("--within", metavar="NAME", help="Only features of this model or SAE.")(
        function
    )


def count_option(default: int, what: str) -> Callable[[F], F]:
    """`-n`: how many of `what` to show."""
    return click.option(
        "-n",
        "count",
        type=click.IntRange(min=0),
        default=default,
        metavar="N",
        help=f"How many {what} to show.",
    )


def format_option(*formats: str) -> Callable[[F], F]:
    """`-f/--format`, one of `formats`; None where it is not given."""
    usual = "table on a terminal, csv in a pipe" if "csv" in formats else formats[0]
    return click.option(
        "-f",
        "--format",
        "kind",
        type=click.Choice(formats),
        help=f"How results are written to stdout.  [default: {usual}]",
    )


def open_atlas(path: Path, wait: float) -> Atlas:
    """The atlas for reading."""
    import atlas

    return atlas.open(path, wait=wait)


def check_names(path: Path, wait: float, *names: str | None) -> None:
    """Tell what is wrong with ATLAS or names of SAEs and models, before anything slow is imported.

    For commands that write: an atlas of an earlier version is brought up to date.
    """
    from atlas.store import Atlas, bring_up_to_date

    bring_up_to_date(path, wait)
    with Atlas.open(path, wait=wait) as atlas:
        for name in names:
            atlas.rows("select saes_in(?)", [name])
