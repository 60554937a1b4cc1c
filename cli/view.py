"""`atlas view`: the atlas as a page in the browser."""

from __future__ import annotations

from pathlib import Path

import click

from atlas.cli._options import AtlasCommand, atlas_argument, open_atlas, wait_option


@click.command(
    cls=AtlasCommand,
    examples=[
        "atlas view demo.atlas",
        "atlas view demo.atlas --port 9000 --no-browser",
    ],
)
@atlas_argument
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="Port of this machine to serve at.  [default: 8765, or a free one]",
)
@click.option("--browser/--no-browser", default=True, help="Whether to open the page.")
@wait_option
def command(atlas_path: Path, port: int | None, browser: bool, wait: float) -> None:
    """Look at an atlas in the browser.

    The page is served to this machine alone, at 127.0.0.1, until Ctrl-C. It needs no network. The
    atlas is open for reading meanwhile, so nobody can write it.
    """
    with open_atlas(atlas_path, wait) as atlas:
        from atlas.web.server import serve

        def ready(address: str) -> None:
            click.echo(f"{atlas_path} is at {address} (Ctrl-C to end)")
            if browser:
                import webbrowser

                webbrowser.open(address)

        serve(atlas, port, ready)
