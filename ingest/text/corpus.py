"""Texts from files, folders and the Hugging Face hub, as documents in a fixed order.

A corpus is read as a stream, as often as needed: what is held in memory is one file block or one
record, however long the corpus. Text is UTF-8 and kept as it stands, line ends included; only NUL
and lone surrogates, which databases and tokenizers refuse, become U+FFFD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from atlas.errors import BadInput
from atlas.ingest.text.files import (
    KINDS,
    READERS,
    Records,
    corpus_files,
    kind_of,
    read_files,
    unreadable,
)
from atlas.ingest.text.hub import hub_records
from atlas.ingest.text.pieces import clean, split_text

MAX_CHARACTERS = 20_000
"""A longer text becomes several documents, so that memory is bounded."""


@dataclass(frozen=True)
class Document:
    """One text, not empty and at most as long as its corpus allows."""

    source: str
    """FILE#RECORD, counted from 1 (lines in JSON lines); then .2, .3, … for a long text's later
    pieces: 'stories.txt#3.2'."""
    text: str


@dataclass(frozen=True)
class Corpus:
    """Documents in the order of their source, each iteration from the start.

    Iterating raises BadInput where the source cannot be read, or holds no text at all.
    """

    name: str
    """Short, for reading: the file's stem, the folder's or the dataset's name."""
    source: str
    """As given: a path or a dataset's name."""
    records: Callable[[], Records]
    """Starts reading; called once an iteration."""
    max_characters: int = MAX_CHARACTERS

    def __post_init__(self) -> None:
        if self.max_characters < 1:
            raise ValueError("max_characters must be positive")

    def __iter__(self) -> Iterator[Document]:
        empty, before, number = True, "", 0
        for where, text in self.records():
            for piece in split_text(clean(text), self.max_characters):
                number = number + 1 if where == before else 1
                before = where
                if piece and not piece.isspace():
                    empty = False
                    yield Document(where if number == 1 else f"{where}.{number}", piece)
        if empty:
            raise BadInput(f"The corpus {self.source} holds no text; give one that does.")


def open_corpus(
    source: str | Path, *, text_field: str | None = None, max_characters: int = MAX_CHARACTERS
) -> Corpus:
    """The corpus at a path, or the dataset of that name on the Hugging Face hub.

    Read are .txt (documents end at `<|endoftext|>`), .jsonl or .ndjson (a string or an object a
    line), .json (a list of these), each also as .gz, .parquet, and folders of these, with
    sub-folders, in the order of their names (other and hidden files are passed over). Of a dataset
    (NAME or NAME:CONFIG) the split `train` is streamed, or else its first.

    `text_field` is the field of a record that holds its text; if None, the first of TEXT_FIELDS
    that the first record of a file has, or its only string. BadInput where nothing readable is at
    the path.
    """
    given = str(source)
    if not given.strip():
        raise BadInput(
            f"The corpus has no name; give one of {KINDS}, a folder or a dataset's name."
        )
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            root, files, name = path, corpus_files(path), path.resolve().name
            if not files:
                raise BadInput(f"The folder {given} has no corpus file; put one of {KINDS} in it.")
        elif path.exists():
            root, files, name = path.parent, [path], Path(path.name.removesuffix(".gz")).stem
            if not path.is_file() or kind_of(path) not in READERS:
                raise BadInput(f"{given} is no corpus file; give one of {KINDS}, or a folder.")
        else:
            return Corpus(given, given, hub_records(given, text_field), max_characters)
    except OSError as error:
        raise unreadable(path, error) from error
    read = partial(read_files, root, files, text_field, max_characters)
    return Corpus(name, given, read, max_characters)
