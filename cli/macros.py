"""`atlas macros`: the views and macros that queries are written with."""

from __future__ import annotations

from pathlib import Path

import click

from atlas.cli._options import (
    AtlasCommand,
    atlas_argument,
    format_option,
    open_atlas,
    wait_option,
)
from atlas.cli._output import from_dicts, plain_table, print_table, write_object, write_rows

_TYPES = {
    "topic": "VARCHAR",
    "name": "VARCHAR",
    "kind": "VARCHAR",
    "signature": "VARCHAR",
    "summary": "VARCHAR",
}


@click.command(
    cls=AtlasCommand, examples=["atlas macros demo.atlas", "atlas macros demo.atlas similar"]
)
@atlas_argument
@click.argument("name", required=False)
@format_option("table", "csv", "json", "ndjson")
@wait_option
def command(atlas_path: Path, name: str | None, kind: str | None, wait: float) -> None:
    """List the views and macros, or explain one.

    With NAME its whole documentation: arguments, columns, examples.
    """
    import dataclasses

    from atlas.catalog import entries, entry

    with open_atlas(atlas_path, wait) as atlas:
        found = [entry(atlas, name)] if name else entries(atlas)
    if kind in ("json", "ndjson") and name:
        write_object(dataclasses.asdict(found[0]))
    elif kind in ("csv", "json", "ndjson"):
        write_rows(from_dicts([dataclasses.asdict(one) for one in found], _TYPES), kind)
    elif name:
        click.echo(f"{found[0].signature}  ({found[0].kind})\n\n{found[0].doc}")
    else:
        for topic in dict.fromkeys(one.topic for one in found):
            table = plain_table(topic)
            table.add_column("")
            table.add_column("")
            table.show_header = False
            for one in found:
                if one.topic == topic:
                    table.add_row(one.signature, one.summary)
            print_table(table)
            click.echo()
