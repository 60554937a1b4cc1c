"""`atlas sql`: run a query, or open the shell."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from atlas.cli._options import (
    AtlasCommand,
    atlas_argument,
    format_option,
    open_atlas,
    wait_option,
)
from atlas.cli._output import ROW_FORMATS, write_query
from atlas.errors import BadInput


@click.command(
    cls=AtlasCommand,
    examples=[
        'atlas sql demo.atlas "from sae_cards"',
        "atlas sql demo.atlas \"from contexts('stdlib-a/1-resid_post/12', n := 3)\" -f json",
        "atlas sql demo.atlas --file figure2.sql -f csv > figure2.csv",
        "atlas sql demo.atlas",
    ],
)
@atlas_argument
@click.argument("query", required=False)
@click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Read the query from a file.",
)
@format_option(*ROW_FORMATS)
@wait_option
def command(
    atlas_path: Path, query: str | None, file: Path | None, kind: str | None, wait: float
) -> None:
    """Run SQL on an atlas; without QUERY, open a shell.

    QUERY may also come through a pipe. Of several statements, the rows of the last are shown. The
    atlas is opened for reading; `atlas macros` lists the views and macros to use.
    """
    if query is not None and file is not None:
        raise click.UsageError("Give the query as QUERY or by --file, not both.")
    if query is None and file is None and sys.stdin.isatty():
        from atlas.cli._shell import Shell

        with open_atlas(atlas_path, wait) as atlas:
            Shell(atlas, kind).run()
        return
    text = query if query is not None else _read(file)
    if not text.strip():
        raise BadInput("The query is empty; give one such as 'from sae_cards'.")
    with open_atlas(atlas_path, wait) as atlas:
        write_query(atlas.cursor(), text, kind)


def _read(file: Path | None) -> str:
    name = "standard input" if file is None or str(file) == "-" else str(file)
    source = sys.stdin.buffer.read() if name == "standard input" else _bytes(Path(name))
    try:
        return source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is not UTF-8 text (byte {error.start}); convert it.") from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} could not be read: {error.strerror}.") from error
