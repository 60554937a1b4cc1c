"""Writes rows or features to a file for a paper, with a manifest that says where they came from.

The file appears whole or not at all. Its manifest, `FILE.manifest.json`, holds the query, the
atlas's stamp, the models and the corpus behind it, package versions, the number of rows and the
file's sha256, which is what a reader needs to check the numbers or to make the file again.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas.errors import BadInput, NotFound
from atlas.progress import Progress, Silent
from atlas.rows import Rows, run, write_parquet, write_text
from atlas.store import Atlas, scratch_path

FORMATS = ("parquet", "csv", "ndjson", "json")
_SUFFIXES = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "json",
}
_PACKAGES = (
    "feature-atlas",
    "duckdb",
    "numpy",
    "pyarrow",
    "torch",
    "transformers",
    "faiss-cpu",
    "faiss-gpu",
)

PARTS = {
    "labels": """
        select feature_id, list({
            'text': text, 'method': method, 'explainer': explainer, 'score': score,
            'scored_by': scored_by
        } order by score desc nulls last, run_id desc, method, explainer, text) as labels
        from labels where feature_id in (select feature_id from _chosen) group by feature_id
    """,
    "examples": """
        select c.feature_id, list({
            'rank': c.rank, 'stratum': c.stratum, 'split': c.split, 'activation': c.activation,
            'text': c.text, 'document_id': c.document_id, 'source': c.source
        } order by c.rank) as examples
        from _chosen, contexts(_chosen.feature_id, n := 1000000) as c group by c.feature_id
    """,
    "vectors": """
        select
            feature_id, encoder, encoder_bias, threshold, decoder, signature::float[] as signature
        from vectors where feature_id in (select feature_id from _chosen)
    """,
    "activations": """
        select feature_id, list({
            'document_id': document_id, 'position': position, 'text': text, 'activation': activation
        } order by token) as activations
        from firings where feature_id in (select feature_id from _chosen) group by feature_id
    """,
}
"""What may be added to exported features: one row per feature, to be joined by feature_id."""


@dataclass(frozen=True)
class Exported:
    """A finished export."""

    path: Path
    manifest: Path
    rows: int
    sha256: str


def format_of(path: Path) -> str:
    """The format that a file's suffix stands for; BadInput for any other suffix."""
    try:
        return _SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise BadInput(
            f"The suffix of {path} names no format; end it in {', '.join(_SUFFIXES)} or give "
            "--format."
        ) from None


def chosen_features(atlas: Atlas, names: str) -> list[int]:
    """Ids of the features that `names` means, ascending.

    names: separated by commas, each a feature's name or id, a pattern over names with `*`, `?` or
    `[…]` such as 'stories260k/3-*', or `@FILE` with one of these a line (`#` begins a comment).
    NotFound for a name or pattern that matches nothing.
    """
    chosen: set[int] = set()
    for name in _names(names):
        if not set(name) & set("*?["):
            chosen.add(atlas.feature_id(name))
            continue
        found = atlas.rows("select feature_id from feature_names where feature glob ?", [name])
        if not found:
            raise NotFound(
                f"No feature's name matches {name!r}; `atlas info {atlas.path}` lists the SAEs."
            )
        chosen.update(row[0] for row in found)
    if not chosen:
        raise BadInput("No feature is named; give names, a pattern such as 'MODEL/3-*' or @FILE.")
    return sorted(chosen)


def _names(text: str) -> Iterator[str]:
    for part in filter(None, map(str.strip, text.split(","))):
        if not part.startswith("@"):
            yield part
            continue
        path = Path(part[1:])
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise BadInput(f"The list of features {path} could not be read: {reason}.") from error
        yield from filter(None, (line.partition("#")[0].strip() for line in lines))


def features_query(ids: Sequence[int], parts: Sequence[str] = ()) -> str:
    """The SQL that gives one row per feature of `ids`, in that order of ids, with `PARTS` added."""
    unknown = sorted(set(parts) - PARTS.keys())
    if unknown:
        raise BadInput(f"There is nothing called {unknown[0]!r} to add; choose {', '.join(PARTS)}.")
    parts = [name for name in PARTS if name in parts]
    runs = " union all ".join(
        f"select unnest(range({first}, {last + 1})) as feature_id" for first, last in _runs(ids)
    )
    ctes = "".join(f",\n_{name} as ({PARTS[name]})" for name in parts)
    columns = "".join(f", _{name}.* exclude (feature_id)" for name in parts)
    joins = "".join(
        f"\nleft join _{name} on _{name}.feature_id = feature_cards.feature_id" for name in parts
    )
    return (
        f"with _chosen as ({runs}){ctes}"
        f"\nselect feature_cards.*{columns}\nfrom feature_cards{joins}"
        "\nwhere feature_cards.feature_id in (select feature_id from _chosen)"
        "\norder by feature_cards.feature_id"
    )


def _runs(ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ascending ids as runs of consecutive ones, so that the text of a whole SAE stays short."""
    first = previous = ids[0]
    for one in ids[1:]:
        if one != previous + 1:
            yield first, previous
            first = one
        previous = one
    yield first, previous


def export(
    atlas: Atlas,
    query: str,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write the rows of a query to a file and its manifest beside it; both replace older ones.

    format: one of `FORMATS`, by default what the suffix says. BadInput where the file cannot be
    written, QueryError for what DuckDB refuses; then nothing is left behind.
    """
    path = Path(path)
    kind = format or format_of(path)
    if kind not in FORMATS:
        raise BadInput(f"There is no export format {kind!r}; choose from {', '.join(FORMATS)}.")
    if path.is_dir():
        raise BadInput(f"{path} is a folder; name a file in it.")
    if path.exists() and path.samefile(atlas.path):
        raise BadInput(f"{path} is the atlas itself; export to another file.")
    if not path.parent.is_dir():
        raise BadInput(f"The folder {path.parent} does not exist; make it first.")
    manifest = path.with_name(path.name + ".manifest.json")
    scratch, scratch_manifest = scratch_path(path), scratch_path(manifest)
    try:
        rows, columns = _write(atlas, query, scratch, kind, progress or Silent())
        with scratch.open("rb") as source:
            sha256 = hashlib.file_digest(source, "sha256").hexdigest()
        described = _manifest(atlas, query, path.name, kind, rows, columns, sha256)
        scratch_manifest.write_text(
            json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        # Killed between the two, a file without a manifest is left, never one with a false one.
        manifest.unlink(missing_ok=True)
        scratch.replace(path)
        scratch_manifest.replace(manifest)
    except OSError as error:
        raise BadInput(f"{path} could not be written: {error.strerror or error}.") from error
    finally:
        for leftover in (scratch, scratch_manifest):
            with contextlib.suppress(OSError):
                leftover.unlink(missing_ok=True)
    return Exported(path, manifest, rows, sha256)


def _write(
    atlas: Atlas, query: str, path: Path, kind: str, progress: Progress
) -> tuple[int, dict[str, str]]:
    """Write the data file; the number of its rows, and its columns with their DuckDB types."""
    connection = atlas.cursor()
    try:
        if kind == "parquet":
            write_parquet(connection, query, path, progress=progress)
            written = connection.execute("select count(*) from read_parquet(?)", [str(path)])
            count = int(written.fetchall()[0][0])
            relation = connection.sql("select * from read_parquet(?)", params=[str(path)])
            columns = dict(zip(relation.columns, map(str, relation.types), strict=True))
        else:
            rows = run(connection, query, progress=progress)
            if rows is None:
                raise BadInput("The statement returns no rows to export; give a query.")
            with (
                path.open("w", encoding="utf-8", newline="") as stream,
                progress.task("export", None, "rows") as task,
            ):
                count = write_text(_counted(rows, task.advance), stream, kind)
            columns = {column.name: column.type for column in rows.columns}
    finally:
        connection.close()
    return count, columns


def _counted(rows: Rows, advance: Callable[[float], None]) -> Rows:
    def batches() -> Iterator[Sequence[Any]]:
        for batch in rows:
            yield batch
            advance(len(batch))

    return Rows(rows.columns, batches(), rows.close)


def _manifest(
    atlas: Atlas,
    query: str,
    name: str,
    kind: str,
    rows: int,
    columns: dict[str, str],
    sha256: str,
) -> dict[str, Any]:
    models = atlas.rows("select name, source, revision, sha256 from models order by model_id")
    corpora = atlas.rows("select name, source, licence, sha256 from corpora order by corpus_id")
    return {
        "file": name,
        "format": kind,
        "rows": rows,
        "columns": columns,
        "sha256": sha256,
        "query": query,
        "atlas": {
            "file": atlas.path.name,
            "format": atlas.meta("format"),
            "stamp": atlas.stamp,
            "models": [
                dict(zip(("name", "source", "revision", "sha256"), row, strict=True))
                for row in models
            ],
            "corpora": [
                dict(zip(("name", "source", "licence", "sha256"), row, strict=True))
                for row in corpora
            ],
        },
        "versions": _versions(),
        "exported_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
