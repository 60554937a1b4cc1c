"""`atlas export`: rows or features to a file with a manifest, or SAEs in SAELens's layout."""

from __future__ import annotations

from pathlib import Path

import click

from atlas.cli._options import AtlasCommand, atlas_argument, open_atlas, wait_option
from atlas.cli._output import write_query
from atlas.cli._progress import Reporter
from atlas.errors import BadInput

_FORMATS = ("parquet", "csv", "ndjson", "json")


@click.command(
    cls=AtlasCommand,
    examples=[
        'atlas export demo.atlas --sql "from sae_cards" --to table1.csv',
        "atlas export demo.atlas --features 'stdlib-a/1-*' --with labels,examples --to l1.parquet",
        "atlas export demo.atlas --features @chosen.txt --with vectors -f ndjson > chosen.ndjson",
        "atlas export demo.atlas --saelens saes --sae 'stdlib-a/*'",
    ],
)
@atlas_argument
@click.option("--sql", "query", metavar="QUERY", help="Rows to export; @FILE reads it from a file.")
@click.option(
    "--features",
    metavar="NAMES",
    help="Features to export: names, ids or patterns such as 'stdlib-a/1-*', separated by commas; "
    "@FILE holds one a line.",
)
@click.option(
    "--with",
    "parts",
    metavar="PARTS",
    default="",
    help="Columns to add to features: vectors,examples,labels,activations.",
)
@click.option(
    "--saelens",
    "saelens_folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write SAEs into DIR, a folder each, as SAELens loads them from disk.",
)
@click.option(
    "--sae",
    "saes",
    metavar="NAME",
    help="The SAEs for --saelens: a name, or a pattern such as 'stdlib-a/*'.  [default: all]",
)
@click.option("--to", type=click.Path(path_type=Path), metavar="FILE", help="[default: stdout]")
@click.option(
    "-f",
    "--format",
    "kind",
    type=click.Choice(_FORMATS),
    help="[default: by FILE's suffix; csv on stdout]",
)
@wait_option
def command(
    atlas_path: Path,
    query: str | None,
    features: str | None,
    parts: str,
    saelens_folder: Path | None,
    saes: str | None,
    to: Path | None,
    kind: str | None,
    wait: float,
) -> None:
    """Write rows or features to a file, or SAEs to folders.

    Rows are those of a query; features come one a row, with what belongs to them. Beside FILE,
    FILE.manifest.json tells the query, the atlas's stamp, versions, the number of rows and the
    file's sha256, so that others can check it or make it again.

    SAEs are written with --saelens: SAELens computes the same activations from what it loads. What
    it has no architecture for is told, and nothing is written.
    """
    from atlas.export import chosen_features, export, features_query, format_of

    if [query, features, saelens_folder].count(None) != 2:
        raise click.UsageError("Give one of --sql QUERY, --features NAMES and --saelens DIR.")
    if parts and features is None:
        raise click.UsageError("--with adds to --features; put it into the query instead.")
    if saes is not None and saelens_folder is None:
        raise click.UsageError("--sae chooses SAEs for --saelens DIR; add that.")
    if saelens_folder is not None:
        if to or kind:
            raise click.UsageError("--saelens DIR says where and how; leave --to and --format out.")
        _export_saelens(atlas_path, wait, saelens_folder, saes or "*")
        return
    if to is not None:
        kind = kind or format_of(to)
    with open_atlas(atlas_path, wait) as atlas:
        if features is not None:
            added = [part.strip() for part in parts.split(",") if part.strip()]
            query = features_query(chosen_features(atlas, features), added)
        elif query is not None and query.startswith("@"):
            query = _read(Path(query[1:]))
        assert query is not None
        if to is None:
            write_query(atlas.cursor(), query, kind or "csv")
            return
        reporter = Reporter(keep=False)
        done = export(atlas, query, to, format=kind, progress=reporter)
    reporter.notice(f"{done.path}: {done.rows:,} rows; {done.manifest.name} tells their origin.")


def _export_saelens(atlas_path: Path, wait: float, folder: Path, pattern: str) -> None:
    from atlas.ingest.importing.formats.write_saelens import export_saelens

    with open_atlas(atlas_path, wait) as atlas:
        written = export_saelens(atlas, pattern, folder)
    reporter = Reporter(keep=False)
    for place in written:
        reporter.notice(f"{place}: load it with SAE.load_from_disk of sae_lens.")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BadInput(f"The query file {path} could not be read: {reason}.") from error
