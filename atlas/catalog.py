"""The words of an atlas's query language: its tables, views and macros with their documentation."""

from __future__ import annotations

from dataclasses import dataclass

from atlas import scripts
from atlas.errors import NotFound
from atlas.store import Atlas

_TOPIC_OF_OTHERS = "own"


@dataclass(frozen=True)
class Entry:
    """One view or macro of an atlas."""

    name: str
    kind: str
    """'view', 'macro' (scalar) or 'table macro'."""
    topic: str
    """'views', 'find', 'neighbours', …; 'own' for what this package did not put there."""
    signature: str
    """As typed in a query: `contexts(feature, n := 10)`; the bare name for a view."""
    summary: str
    doc: str
    """All of its documentation."""


@dataclass(frozen=True)
class Relation:
    """One table or view of an atlas with its columns."""

    name: str
    kind: str
    """'table' or 'view'."""
    columns: tuple[str, ...]


def entries(atlas: Atlas) -> list[Entry]:
    """Every view and macro in the file but helpers (`_…`), by topic and name.

    The documentation is the file's own, so an atlas of another version tells what it can do.
    """
    found = atlas.rows(
        """
        select view_name, 'view', null, coalesce(comment, '') from duckdb_views()
        where not internal and database_name = current_database()
        union all
        select
            function_name,
            replace(any_value(function_type), '_', ' '),
            any_value(parameters),
            coalesce(any_value(comment), '')
        from duckdb_functions()
        where not internal and database_name = current_database()
        and function_type in ('macro', 'table_macro')
        group by function_name
        """
    )
    known = {(one.name, one.kind): one for one in scripts.objects()}
    made = []
    for name, kind, parameters, doc in found:
        if name.startswith("_"):
            continue
        ours = known.get((name, kind))
        if ours and ours.doc == doc:
            signature = ours.signature
        else:
            signature = name if parameters is None else f"{name}({', '.join(parameters)})"
        topic = ours.topic if ours else _TOPIC_OF_OTHERS
        made.append(Entry(name, kind, topic, signature, doc.partition("\n")[0], doc))
    return sorted(made, key=lambda one: (one.topic == _TOPIC_OF_OTHERS, one.topic, one.name))


def entry(atlas: Atlas, name: str) -> Entry:
    """The view or macro of that name; NotFound tells the ones whose names come near.

    Of a view and a macro of one name the macro, which has the arguments.
    """
    every = {one.name: one for one in sorted(entries(atlas), key=lambda one: one.kind != "view")}
    if name in every:
        return every[name]
    import difflib

    near = difflib.get_close_matches(name, every, n=3) or [n for n in every if name in n][:3]
    hint = f"the nearest are {', '.join(near)}" if near else "list them with `atlas macros`"
    raise NotFound(f"There is no view or macro {name!r} in {atlas.path}; {hint}.")


def relations(atlas: Atlas) -> list[Relation]:
    """Every table and view with its columns in order, tables first."""
    found = atlas.rows(
        """
        select table_name, if(table_name in (select view_name from duckdb_views()), 'view', 'table')
            as kind, list(column_name order by column_index)
        from duckdb_columns()
        where not internal and database_name = current_database()
        group by all
        order by kind, table_name
        """
    )
    return [Relation(name, kind, tuple(columns)) for name, kind, columns in found]
