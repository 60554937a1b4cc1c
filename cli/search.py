"""`atlas search`: features by words or by tokens."""

from __future__ import annotations

from pathlib import Path

import click

from atlas.cli._options import (
    AtlasCommand,
    atlas_argument,
    count_option,
    format_option,
    open_atlas,
    wait_option,
    within_option,
)
from atlas.cli._output import ROW_FORMATS, write_query


@click.command(
    cls=AtlasCommand,
    examples=[
        "atlas search demo.atlas file path",
        "atlas search demo.atlas --promotes return --within stdlib-a",
        "atlas search demo.atlas --fires-on import -n 5 -f json",
    ],
)
@atlas_argument
@click.argument("words", nargs=-1)
@click.option(
    "--promotes", metavar="TOKEN", help="Instead: features that make this token likelier."
)
@click.option("--suppresses", metavar="TOKEN", help="Instead: features that make it less likely.")
@click.option("--fires-on", metavar="WORD", help="Instead: features active on this word.")
@within_option
@count_option(20, "features")
@format_option(*ROW_FORMATS)
@wait_option
def command(
    atlas_path: Path,
    words: tuple[str, ...],
    within: str | None,
    count: int,
    kind: str | None,
    wait: float,
    **tokens: str | None,
) -> None:
    """Find features by words or tokens.

    WORDS are looked for in labels and among a feature's top words and tokens. The same as the
    macros find, promotes, suppresses and fires_on in SQL.
    """
    asked = {"find": " ".join(words) or None, **tokens}
    given = {macro: text for macro, text in asked.items() if text is not None}
    if len(given) != 1:
        raise click.UsageError(
            "Give either WORDS or one of --promotes, --suppresses and --fires-on."
        )
    ((macro, text),) = given.items()
    query = f"from {macro}(?, n := ?, within := ?)"
    with open_atlas(atlas_path, wait) as atlas:
        write_query(atlas.cursor(), query, kind, [text, count, within])
