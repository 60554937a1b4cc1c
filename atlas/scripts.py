"""Loads the SQL objects under sql/: orders them by dependency, creates them, documents them.

One object a file, the file's stem is the object's name, and the comment that opens the file is its
documentation: first line the summary, then prose, `argument: meaning` lines and, indented by four
more spaces, examples. The same text becomes `comment on`, `atlas macros NAME` and `--help`.
"""

from __future__ import annotations

import functools
import graphlib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

SQL = Path(__file__).parent / "sql"

# A name may be quoted: `similar` is a word of SQL's own.
_CREATE = re.compile(
    r'create\s+or\s+replace\s+(?P<kind>view|macro)\s+"?(?P<name>\w+)"?\s*(?P<rest>.*)', re.S | re.I
)
_WORD = re.compile(r"\b([a-z_][a-z0-9_]*)\b(\s*\()?")
_STRING_OR_COMMENT = re.compile(r"'(?:[^']|'')*'|--[^\n]*")

_Key = tuple[str, bool]
"""Name, and whether it is called: that of a macro."""


@dataclass(frozen=True)
class SqlObject:
    """One view or macro, as its file states it."""

    name: str
    kind: str
    """'view', 'macro' (scalar) or 'table macro'."""
    topic: str
    """Folder it lies in: 'views', 'find', 'neighbours', …"""
    signature: str
    """As typed in a query: `contexts(feature, n := 10)`; the bare name for a view."""
    summary: str
    doc: str
    """The whole header, comment marks removed."""
    examples: tuple[str, ...]
    body: str
    path: Path

    @property
    def public(self) -> bool:
        """False for helpers, whose names begin with an underscore."""
        return not self.name.startswith("_")


def schema_files() -> list[tuple[int, Path]]:
    """(number, file) of every schema step, in the order in which they are applied."""
    return sorted((int(p.name[:3]), p) for p in (SQL / "schema").glob("[0-9][0-9][0-9]_*.sql"))


def check_files() -> list[Path]:
    """Every truth of sql/checks/: a query that returns no rows on a sound atlas."""
    return sorted((SQL / "checks").glob("*.sql"))


def header(text: str) -> str:
    """The comment that opens an SQL file, comment marks removed."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        lines.append(line[2:].removeprefix(" ").rstrip())
    return "\n".join(lines).strip()


def _examples(doc: str) -> tuple[str, ...]:
    blocks = re.split(r"\n\s*\n", doc)
    indented = (b for b in blocks if all(line.startswith("    ") for line in b.splitlines()))
    return tuple("\n".join(line[4:] for line in b.splitlines()) for b in indented)


def _parse(path: Path) -> SqlObject:
    text = path.read_text(encoding="utf-8")
    match = _CREATE.search(text)
    if not match or match["name"] != path.stem:
        raise RuntimeError(f"{path} must hold one `create or replace view|macro {path.stem}`")
    name, rest = match["name"], match["rest"]
    kind, signature = match["kind"].lower(), name
    if kind == "macro":
        arguments, after = _arguments(rest)
        signature = f"{name}({arguments})"
        if re.match(r"\s*as\s+table\b", after, re.I):
            kind = "table macro"
    doc = header(text)
    return SqlObject(
        name,
        kind,
        path.parent.name,
        signature,
        doc.partition("\n")[0],
        doc,
        _examples(doc),
        text,
        path,
    )


def _arguments(rest: str) -> tuple[str, str]:
    """Split `(a, b := 1) as …` into the arguments, on one line, and what follows them."""
    depth = 0
    for i, character in enumerate(rest):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return " ".join(rest[1:i].split()), rest[i + 1 :]
    raise RuntimeError(f"unbalanced parentheses in {rest[:40]!r}")


def _mentions(one: SqlObject, found: Mapping[_Key, SqlObject]) -> set[_Key]:
    """The other objects that the body uses: a macro is called, a view is not."""
    words = _WORD.findall(_STRING_OR_COMMENT.sub("", one.body))
    return {(word, bool(call)) for word, call in words} & found.keys() - {_key(one)}


def _key(one: SqlObject) -> _Key:
    return one.name, one.kind != "view"


@functools.cache
def objects() -> tuple[SqlObject, ...]:
    """Every view and macro, each after those that its body mentions.

    A view and a table macro may share a name: `from name` and `from name(…)`, the view being the
    macro with its defaults.
    """
    found: dict[_Key, SqlObject] = {}
    for path in sorted([*(SQL / "views").glob("*.sql"), *(SQL / "macros").glob("*/*.sql")]):
        one = _parse(path)
        if _key(one) in found:
            raise RuntimeError(f"{one.name} is defined in {found[_key(one)].path} and in {path}")
        found[_key(one)] = one
    graph = {key: sorted(_mentions(one, found)) for key, one in sorted(found.items())}
    return tuple(found[key] for key in graphlib.TopologicalSorter(graph).static_order())


@functools.cache
def fingerprint() -> str:
    """sha256 of all views and macros: an atlas that holds another set is given this one."""
    digest = hashlib.sha256()
    for one in objects():
        digest.update(one.body.encode() + b"\0")
    return digest.hexdigest()


def load(con: duckdb.DuckDBPyConnection) -> None:
    """Create or replace every view and macro in the open atlas, with its documentation.

    Objects of an earlier version that have no file any more are dropped. Idempotent.
    """
    kept = {_key(one) for one in objects()}
    stale = con.execute(
        """
        select 'view', view_name from duckdb_views()
        where not internal and database_name = current_database()
        union all
        select distinct replace(function_type, '_', ' '), function_name from duckdb_functions()
        where not internal and database_name = current_database() and function_type like '%macro'
        """
    ).fetchall()
    for kind, name in stale:
        if (name, kind != "view") not in kept:
            con.execute(f'drop {kind.replace("table macro", "macro table")} "{name}"')
    for one in objects():
        con.execute(one.body)
        target = "macro table" if one.kind == "table macro" else one.kind
        doc = one.doc.replace("'", "''")
        con.execute(f"comment on {target} \"{one.name}\" is '{doc}'")
