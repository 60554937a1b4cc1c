"""Categories of words: read from files, and kept in an atlas beside its own.

What a file may be:

    .json           {"months": ["january", …], …}
    .csv, .tsv      with a header, columns `category` and `word`, one word a row
    anything else   a category a line: its name, then its words, with tabs between (or commas in
                    .csv); the form in which Empath (Fast et al. 2016) is published

A word is matched whole: as the corpus is cut into words, in lower case. What is several words there
("ice-cream", "new york") is a phrase, which matches where its words follow each other.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from atlas.compare.semantic import known_categories
from atlas.compare.settings import WHOLE
from atlas.errors import BadInput
from atlas.ingest.text.words import word_form, word_spans
from atlas.store import Atlas

Lists = dict[str, list[str]]
"""Category → its words, as written in a file."""


@dataclass(frozen=True)
class Added:
    """What one file brought."""

    source: str
    """The file's name."""
    categories: int
    words: int
    """Words and phrases that were not in their category yet."""
    phrases: int
    """How many of these are phrases."""
    left_out: int
    """Words left out: said before, in this file or in the atlas, or without a letter or sign."""


def read_lists(path: Path) -> Lists:
    """The categories of a file in their order; BadInput for what is none of the forms above."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BadInput(f"The word list {path} could not be read: {reason}.") from error
    suffix = path.suffix.lower()
    lists = _from_json(path, text) if suffix == ".json" else _from_lines(path, text, suffix)
    if not lists:
        raise BadInput(f"The word list {path} is empty; write a category and its words a line.")
    return lists


def _from_json(path: Path, text: str) -> Lists:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BadInput(f"The word list {path} is not JSON: {error}.") from error
    if not isinstance(found, dict) or not all(
        isinstance(words, list) and all(isinstance(word, str) for word in words)
        for words in found.values()
    ):
        raise BadInput(
            f'The word list {path} is JSON of another form; write {{"category": ["word", …], …}}.'
        )
    for number, (category, words) in enumerate(found.items(), 1):
        if not words:
            raise BadInput(f"Category {number} of {path}, {category!r}, has no words.")
    return {_named(path, f"category {n}", name): found[name] for n, name in enumerate(found, 1)}


def _from_lines(path: Path, text: str, suffix: str) -> Lists:
    if suffix == ".csv":
        try:
            rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        except csv.Error as error:
            raise BadInput(f"The word list {path} is not CSV: {error}.") from error
    else:
        rows = [line.split("\t") for line in text.splitlines()]
    numbered = [
        (number, [cell.strip() for cell in row])
        for number, row in enumerate(rows, 1)
        if any(cell.strip() for cell in row)
    ]
    if numbered and suffix in (".csv", ".tsv"):
        header = [cell.lower() for cell in numbered[0][1]]
        if {"category", "word"} <= set(header):
            columns = header.index("category"), header.index("word")
            numbered = [
                (number, [row[at] if at < len(row) else "" for at in columns])
                for number, row in numbered[1:]
            ]
    lists: Lists = {}
    for number, (category, *cells) in numbered:
        words = [cell for cell in cells if cell]
        if not words:
            raise BadInput(
                f"Line {number} of {path} has no words; write a category and its words with "
                f"{'commas' if suffix == '.csv' else 'tabs'} between them."
            )
        lists.setdefault(_named(path, f"line {number}", category), []).extend(words)
    return lists


def _named(path: Path, place: str, category: str) -> str:
    """The category's name, which must be one that a command line can take."""
    name = category.strip()
    if not name or not name.isprintable():
        raise BadInput(f"The category of {place} of {path} has no name; put one before its words.")
    return name


def keyword(text: str) -> str:
    """The words of `text` as the corpus is cut into words, with single spaces between them."""
    forms = (
        word_form(text, start, end) for start, end in zip(*map(list, word_spans(text)), strict=True)
    )
    return " ".join(filter(None, forms))


def change_categories(
    atlas: Atlas, *, add: Sequence[Path] = (), prefix: str = "", remove: Sequence[str] = ()
) -> tuple[int, list[Added]]:
    """Take categories out, then add those of files; all of it or, on any error, nothing.

    add: files for `read_lists`; prefix: put before the names of their categories.
    remove: names of categories; NotFound where one is not there.

    A category that is there from the same file is extended. BadInput where it is there from another
    source, as its features would then be found by neither list.

    Returns the number of words taken out, and what each file brought.
    """
    read = [
        (path.name, {prefix + name: words for name, words in read_lists(path).items()})
        for path in add
    ]
    with atlas.transaction():
        gone = _remove(atlas, remove) if remove else 0
        return gone, [_add(atlas, source, lists) for source, lists in read]


def _add(atlas: Atlas, source: str, lists: Mapping[str, Sequence[str]]) -> Added:
    foreign = atlas.rows(
        "select category, min(source) from categories where source != ?"
        " and list_contains(?, category) group by category order by category",
        [source, list(lists)],
    )
    if WHOLE in lists:
        raise BadInput(
            f"A category of {source} is called {WHOLE!r}, which stands for all features; give it "
            "another name, or add the file with --prefix."
        )
    if foreign:
        names = ", ".join(name for name, _ in foreign[:6]) + (" …" if len(foreign) > 6 else "")
        raise BadInput(
            f"The atlas has categories of these names from {foreign[0][1]}: {names}; add them with "
            "--prefix, or take those out with --remove."
        )
    keywords = [(name, keyword(word)) for name, words in lists.items() for word in words]
    kept = atlas.rows(
        """
        insert into categories
        select asked.category, asked.word, $source
        from (
            select category, _folded(word) as folded, min(place) as place
            from (
                select
                    unnest($categories) as category,
                    unnest($words) as word,
                    generate_subscripts($words, 1) as place
            )
            where word != ''
            group by category, folded
        ) as asked (category, word, place)
        anti join categories as known
            on known.category = asked.category and known.word = asked.word
        order by asked.place
        returning word
        """,
        {
            "source": source,
            "categories": [name for name, _ in keywords],
            "words": [word for _, word in keywords],
        },
    )
    return Added(
        source=source,
        categories=len(lists),
        words=len(kept),
        phrases=sum(" " in word for (word,) in kept),
        left_out=len(keywords) - len(kept),
    )


def _remove(atlas: Atlas, names: Sequence[str]) -> int:
    with closing(atlas.cursor()) as con:
        known_categories(con, names)
    gone = atlas.rows(
        "delete from categories where list_contains(?, category) returning word", [list(names)]
    )
    return len(gone)
