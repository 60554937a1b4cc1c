"""What Tab offers in the shell: keywords, tables, columns, macros, names of SAEs, dot-commands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from atlas.catalog import entries, relations

if TYPE_CHECKING:
    from atlas.store import Atlas

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*$")
_OPEN_STRING = re.compile(r"'((?:[^']|'')*)$")
_CLOSED_STRING = re.compile(r"'(?:[^']|'')*'")
_WANTS_TABLE = re.compile(
    r"\b(from|join|describe|summarize)\s+(?:[\w.]+(?:\([^()]*\))?(?:\s+\w+)?\s*,\s*)*$", re.I
)
_LOWER = str.lower


@dataclass(frozen=True)
class _Word:
    text: str
    display: str
    meta: str = ""


@dataclass
class SqlCompleter(Completer):
    """Completes SQL by what an atlas holds."""

    atlas: Atlas
    commands: dict[str, str]
    """Dot-commands and what they do."""
    _tables: list[_Word] = field(default_factory=list)
    _values: list[_Word] = field(default_factory=list)
    _described: dict[str, str] = field(default_factory=dict)
    _keywords: list[str] = field(default_factory=list)
    _saes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        described = entries(self.atlas)
        self._described = {one.name: one.summary for one in described}
        columns: dict[str, list[str]] = {}
        for relation in relations(self.atlas):
            if relation.name.startswith("_"):
                continue
            self._tables.append(
                _Word(
                    relation.name, relation.name, self._described.get(relation.name, relation.kind)
                )
            )
            for column in relation.columns:
                columns.setdefault(column, []).append(relation.name)
        for one in described:
            if one.kind != "view":
                words = self._tables if one.kind == "table macro" else self._values
                words.append(_Word(f"{one.name}(", one.signature, one.summary))
        for name, owners in columns.items():
            self._values.append(_Word(name, name, f"in {', '.join(owners)}"))
        self._values.sort(key=lambda word: word.text)
        self._values += [
            _Word(f"{name}(", f"{name}(…)", "function")
            for (name,) in self.atlas.rows(
                "select distinct function_name from duckdb_functions() where internal"
                " and function_type in ('scalar', 'aggregate', 'window', 'macro')"
                " and regexp_full_match(function_name, '[a-z][a-z0-9_]*') order by 1"
            )
        ]
        self._keywords = [
            name for (name,) in self.atlas.rows("select keyword_name from duckdb_keywords()")
        ]
        self._saes = [row[0] for row in self.atlas.rows("select name from saes order by sae_id")]

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        before = document.text_before_cursor
        if before.lstrip().startswith("."):
            yield from self._dot_commands(before.lstrip())
            return
        string = _OPEN_STRING.search(_CLOSED_STRING.sub(lambda m: " " * len(m[0]), before))
        if string:
            typed = string[1]
            for name in self._saes:
                if name.startswith(typed):
                    yield Completion(f"{name}/", -len(typed), display=name, display_meta="SAE")
            return
        match = _WORD.search(before)
        typed = match[0] if match else ""
        start = before[: len(before) - len(typed)]
        if not typed and not event.completion_requested:
            return
        yield from self._matching(typed, bool(_WANTS_TABLE.search(start)))

    def _matching(self, typed: str, table: bool) -> Iterator[Completion]:
        groups = [self._tables] if table else [self._values, self._tables]
        for words in groups:
            for word in words:
                if word.text.lower().startswith(_LOWER(typed)):
                    yield Completion(
                        word.text, -len(typed), display=word.display, display_meta=word.meta
                    )
        if typed and not table:
            for keyword in self._keywords:
                if keyword.startswith(_LOWER(typed)):
                    yield Completion(keyword, -len(typed), display_meta="keyword")

    def _dot_commands(self, before: str) -> Iterator[Completion]:
        name, space, rest = before.partition(" ")
        if not space:
            for command, meaning in self.commands.items():
                if command.startswith(name):
                    yield Completion(command, -len(name), display_meta=meaning)
        elif name == ".macros":
            for name_, summary in self._described.items():
                if name_.startswith(rest):
                    yield Completion(name_, -len(rest), display_meta=summary)
