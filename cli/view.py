"""`atlas view`: the atlas as a page in the browser, or as one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from atlas.cli._options import AtlasCommand, atlas_argument, open_atlas, wait_option
from atlas.cli._progress import Reporter
from atlas.cli._text import size
from atlas.errors import BadInput

if TYPE_CHECKING:
    from atlas.store import Atlas

_MOST = 200


@click.command(
    cls=AtlasCommand,
    examples=[
        "atlas view demo.atlas",
        "atlas view demo.atlas --port 9000 --no-browser",
        "atlas view demo.atlas --export page.html --features 'stdlib-a/3-*' --most 50",
        "atlas view demo.atlas --export page.html --sql \"from find('file path')\"",
    ],
)
@atlas_argument
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="Port of this machine to serve at.  [default: 8765, or a free one]",
)
@click.option(
    "--browser/--no-browser", default=True, show_default=False, help="Whether to open the page."
)
@click.option(
    "--export",
    "export",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the page to one HTML file instead, with some features in it.",
)
@click.option(
    "--features",
    "patterns",
    multiple=True,
    metavar="NAME",
    help="For --export: features by name, id or pattern, such as 'MODEL/3-*'; may be repeated.",
)
@click.option(
    "--sql",
    "query",
    metavar="QUERY",
    help="For --export: a query with a column feature or feature_id.",
)
@click.option(
    "--most",
    type=click.IntRange(1, 2000),
    metavar="N",
    help=f"For --export: how many features at most.  [default: {_MOST}]",
)
@click.option(
    "--similar/--no-similar",
    default=True,
    show_default=False,
    help="For --export: whether to add the nearest features in every model.",
)
@wait_option
def command(
    atlas_path: Path,
    port: int | None,
    browser: bool,
    export: Path | None,
    patterns: tuple[str, ...],
    query: str | None,
    most: int | None,
    similar: bool,
    wait: float,
) -> None:
    """Look at an atlas in the browser.

    The page is served to this machine alone, at 127.0.0.1, until Ctrl-C. It needs no network. The
    atlas is open for reading meanwhile, so nobody can write it.

    With --export, the page becomes one file that needs no server: with the features chosen, those
    linked with them, and all that the page shows of these. Without --features and --sql, the
    features with the best labels are chosen.
    """
    if export is None and (patterns or query or most):
        raise click.UsageError("--features, --sql and --most choose what --export FILE writes.")
    if export is not None and patterns and query:
        raise click.UsageError("Choose features either by --features or by --sql.")
    with open_atlas(atlas_path, wait) as atlas:
        if export is not None:
            _export(atlas, export, patterns, query, most or _MOST, similar)
        else:
            _serve(atlas, port, browser)


def _serve(atlas: Atlas, port: int | None, browser: bool) -> None:
    from atlas.web.server import serve

    def ready(address: str) -> None:
        click.echo(f"{atlas.path} is at {address} (Ctrl-C to end)")
        if browser:
            import webbrowser

            webbrowser.open(address)

    serve(atlas, port, ready)


def _export(
    atlas: Atlas,
    path: Path,
    patterns: tuple[str, ...],
    query: str | None,
    most: int,
    similar: bool,
) -> None:
    from atlas.web.export import export_page

    if path.resolve() == atlas.path.resolve():
        raise BadInput(f"{path} is the atlas itself; give --export another name.")
    done = export_page(
        atlas, path, patterns=patterns, query=query, most=most, similar=similar, progress=Reporter()
    )
    around = f" and {done.n_around:,} linked with them" if done.n_around else ""
    left = f"; {done.n_left:,} more were left out, see --most" if done.n_left else ""
    click.echo(f"{path} ({size(done.n_bytes)}) holds {done.n_chosen:,} features{around}{left}.")
