"""The command `atlas`: a group whose commands are imported when they are named."""

from __future__ import annotations

import difflib
import functools
import importlib
from typing import Any

import click

from atlas import __version__
from atlas.cli._errors import leave

SECTIONS = {
    "Make an atlas": ("demo", "ingest"),
    "Look at features": ("info", "show", "search", "similar", "categories", "view"),
    "Compare models": ("compare",),
    "Follow features": ("link", "lineage", "communities"),
    "Ask in SQL": ("sql", "macros"),
    "Hand on": ("export", "check"),
}
"""Every command, in the order of `atlas --help`; each is `command` in the module of its name."""


class Commands(click.Group):
    """Loads a command's module by its name, and ends the process as `leave` says."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of `SECTIONS`."""
        return [name for names in SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"atlas.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` begin with; a usage error names the nearest one."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "`atlas --help` lists them."
            ctx.fail(f"There is no command {name!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by section."""
        widest = max(map(len, self.list_commands(ctx)))
        for title, names in SECTIONS.items():
            found = ((name, self.get_command(ctx, name)) for name in names)
            with formatter.section(title):
                formatter.write_dl(
                    [(f"{name:{widest}}", one.get_short_help_str(80)) for name, one in found if one]
                )

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line and, unless `standalone_mode` is off, leave the process."""
        standalone = kwargs.pop("standalone_mode", True)
        run = functools.partial(super().main, *args, standalone_mode=False, **kwargs)
        return leave(run) if standalone else run()


@click.group(
    cls=Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "show_default": True,
    },
    epilog="ATLAS is the atlas file. Where the environment variable ATLAS names it, leave it out.",
)
@click.version_option(
    __version__, "-V", "--version", prog_name="atlas", message="%(prog)s %(version)s"
)
def main() -> None:
    """Sparse-autoencoder features of language models in one DuckDB file."""
