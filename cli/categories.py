"""`atlas categories`: words of one meaning, and the features that fire on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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
from atlas.cli._progress import Reporter

if TYPE_CHECKING:
    from atlas.store import Atlas


@click.command(
    cls=AtlasCommand,
    examples=[
        "atlas categories demo.atlas",
        "atlas categories demo.atlas numbers --within stdlib-a --least 3",
        "atlas categories demo.atlas --add empath/categories.tsv --prefix empath/",
        "atlas categories demo.atlas --remove plants",
    ],
)
@atlas_argument
@click.argument("category", required=False)
@click.option(
    "--add",
    "added",
    type=click.Path(path_type=Path),
    metavar="FILE",
    multiple=True,
    help="Add the categories of a file: lines of a category and its words with tabs between; .csv "
    "or .tsv with columns category and word; .json {category: [words]}.",
)
@click.option("--prefix", default="", help="Put before the names of the categories added.")
@click.option("--remove", "removed", metavar="CATEGORY", multiple=True, help="Take a category out.")
@click.option(
    "--least",
    type=click.IntRange(1, 5),
    default=1,
    metavar="N",
    help="Of a feature's five strongest words, how many must be of the category.",
)
@within_option
@count_option(20, "features of a category")
@format_option(*ROW_FORMATS)
@wait_option
def command(
    atlas_path: Path,
    category: str | None,
    added: tuple[Path, ...],
    prefix: str,
    removed: tuple[str, ...],
    least: int,
    within: str | None,
    count: int,
    kind: str | None,
    wait: float,
) -> None:
    """List, add and remove categories of words.

    Without CATEGORY all of them, with how many words each has and how many features of every model
    belong to it: those that have such a word among the five on which they are most active. With
    CATEGORY its features, the surest first, as the macro category_features in SQL.
    """
    if added or removed:
        if category:
            raise click.UsageError("CATEGORY shows features; leave it out with --add and --remove.")
        _change(atlas_path, wait, added, prefix, removed)
        return
    if prefix:
        raise click.UsageError("--prefix belongs to --add FILE; add that.")
    with open_atlas(atlas_path, wait) as atlas:
        if category:
            from atlas.compare.semantic import known_categories

            connection = atlas.cursor()
            known_categories(connection, [category])
            write_query(
                connection,
                "from category_features(?, within := ?, least := ?) limit ?",
                kind,
                [category, within, least, count],
            )
            return
        _write_overview(atlas, kind, within, least)


def _change(
    atlas_path: Path, wait: float, added: tuple[Path, ...], prefix: str, removed: tuple[str, ...]
) -> None:
    from atlas.ingest.text.categories import change_categories
    from atlas.session import open_atlas as open_for_writing

    with open_for_writing(atlas_path, write=True, wait=wait) as atlas:
        gone, brought = change_categories(atlas, add=added, prefix=prefix, remove=removed)
    reporter = Reporter(keep=False)
    if removed:
        reporter.notice(f"{', '.join(removed)}: removed, with {gone:,} words.")
    for one in brought:
        reporter.notice(
            f"{one.source}: {one.words:,} words added to {one.categories:,} categories, "
            f"{one.phrases:,} of them phrases; {one.left_out:,} left out as repeated or empty."
        )


def _write_overview(atlas: Atlas, kind: str | None, within: str | None, least: int) -> None:
    """One row per category; a column for every model, so the query is made for this atlas."""
    from atlas.compare.semantic import known_categories

    connection = atlas.cursor()
    known_categories(connection)
    models = atlas.rows(
        "select models.name from models where model_id in (select model_id from saes where"
        " list_contains(saes_in(?), sae_id)) order by model_id",
        [within],
    )
    names = [(name.replace("'", "''"), name.replace('"', '""')) for (name,) in models]
    counts = "".join(
        f""", count(*) filter (feature_names.model = '{text}') as "{column}\""""
        for text, column in names
    )
    shown = "".join(f', coalesce(counted."{column}", 0) as "{column}"' for _, column in names)
    write_query(
        connection,
        f"""
        select listed.category, listed.words, listed.source{shown}
        from (
            select category, count(*) as words, min(source) as source, min(rowid) as place
            from categories
            group by category
        ) as listed
        left join (
            select hit.category{counts}
            from _category_hits(saes_in($within), 5, $least) as hit
            join feature_names on feature_names.feature_id = hit.feature_id
            group by hit.category
        ) as counted on counted.category = listed.category
        order by listed.place
        """,
        kind,
        {"within": within, "least": least},
    )
