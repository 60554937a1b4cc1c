"""Texts from files, folders and the Hugging Face hub, as documents in a fixed order.

A corpus is read as a stream, as often as needed: what is held in memory is one file block or one
record, however long the corpus. Text is UTF-8 and kept as it stands, line ends included; only NUL
and lone surrogates, which databases and tokenizers refuse, become U+FFFD.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import regex

from atlas.errors import BadInput

SEPARATOR = "<|endoftext|>"
"""Ends a document of a .txt file, as the file's end does.

A line break on either side of it, or at the file's end, is no part of a document.
"""

MAX_CHARACTERS = 20_000
"""A longer text becomes several documents, so that memory is bounded."""

TEXT_FIELDS = ("text", "content", "story")
"""Fields that hold the text of a record, first choice first, where none is named."""

_BLOCK_BYTES = 1 << 20
_PARQUET_ROWS = 1024
_LONGEST_BREAK = len(f"\r\n{SEPARATOR}")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_DATASET_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(:[\w.-]+)?", re.ASCII)

# Searched backwards from the limit.
_BLANK_LINE = regex.compile(r"(?r)\n[^\S\n]*\n")
_LINE_END = regex.compile(r"(?r)\n")
_SPACE = regex.compile(r"(?r)[^\S\r]")
_GRAPHEME = regex.compile(r"\X")
_LONGEST_GRAPHEME = 64

Records = Iterator[tuple[str, str]]
"""(where it comes from, text); neighbours of one origin are pieces of one text."""


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
            for piece in split_text(_clean(text), self.max_characters):
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
            f"The corpus has no name; give one of {_KINDS}, a folder or a dataset's name."
        )
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            root, files, name = path, _files(path), path.resolve().name
            if not files:
                raise BadInput(f"The folder {given} has no corpus file; put one of {_KINDS} in it.")
        elif path.exists():
            root, files, name = path.parent, [path], Path(path.name.removesuffix(".gz")).stem
            if not path.is_file() or _kind(path) not in _READERS:
                raise BadInput(f"{given} is no corpus file; give one of {_KINDS}, or a folder.")
        else:
            return Corpus(given, given, _hub_records(given, text_field), max_characters)
    except OSError as error:
        raise _unreadable(path, error) from error
    read = partial(_read_files, root, files, text_field, max_characters)
    return Corpus(name, given, read, max_characters)


def split_text(text: str, limit: int) -> Iterator[str]:
    """Cut a text into pieces of at most `limit` characters; joined they are the text again.

    Each cut is after the last blank line that ends in the latter half of what is allowed, or else
    after the last line, the last white space, or the last grapheme.
    """
    begin = 0
    while len(text) - begin > limit:
        cut = _cut(text, begin, begin + limit)
        yield text[begin:cut]
        begin = cut
    yield text[begin:]


def _cut(text: str, begin: int, limit: int) -> int:
    middle = (begin + limit) // 2
    for pattern in (_BLANK_LINE, _LINE_END, _SPACE):
        if (match := pattern.search(text, begin, limit)) and match.end() > middle:
            return int(match.end())
    # The grapheme that holds the character at the limit goes to the next piece whole.
    near = max(middle, limit - _LONGEST_GRAPHEME)
    *_, last = _GRAPHEME.finditer(text, near, limit + 1)
    return int(last.start()) if last.start() > near else limit


def _clean(text: str) -> str:
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


# Files


def _kind(path: Path) -> str:
    """'.jsonl' for stories.jsonl and stories.jsonl.gz."""
    name = path.name.lower()
    kind = Path(name.removesuffix(".gz")).suffix
    return "" if kind == ".parquet" and name.endswith(".gz") else kind


def _files(folder: Path) -> list[Path]:
    """Every corpus file under a folder that is not hidden, ordered by the parts of its path."""

    def refuse(error: OSError) -> None:
        raise _unreadable(Path(error.filename), error) from error

    found = []
    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(root, name) for name in names if not name.startswith(".")]
        found += [path for path in paths if _kind(path) in _READERS and path.is_file()]
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def _read_files(root: Path, files: list[Path], text_field: str | None, limit: int) -> Records:
    for path in files:
        with _told_errors(path):
            for number, text in _READERS[_kind(path)](path, text_field, limit):
                yield f"{path.relative_to(root).as_posix()}#{number}", text


@contextlib.contextmanager
def _told_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong while reading a file into a BadInput that names it."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(
            f"{path} is no gzip file or is cut short; fetch or compress it again."
        ) from (error)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> BadInput:
    reason = (error.strerror or str(error)).rstrip(".")
    return BadInput(f"{path} cannot be read ({reason}); check the path and its permissions.")


def _not_utf8(path: Path, offset: int) -> BadInput:
    packed = " of what it unpacks to" if path.name.lower().endswith(".gz") else ""
    return BadInput(
        f"{path} is not UTF-8 at byte {offset}{packed}; convert it, for instance with iconv."
    )


def _open(path: Path) -> BufferedIOBase:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")


def _decoded_blocks(path: Path) -> Iterator[str]:
    """A file's text in blocks of bounded size, without the byte order mark."""
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    read = 0
    with _open(path) as file:
        while True:
            block = file.read(_BLOCK_BYTES)
            begin = read - len(decoder.getstate()[0])
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                raise _not_utf8(path, begin + error.start) from error
            yield text.removeprefix("\ufeff") if begin == 0 else text
            if not block:
                return
            read += len(block)


def _read_txt(path: Path, text_field: str | None, limit: int) -> Iterator[tuple[int, str]]:
    """Texts between separators; a very long one in pieces, cut as `split_text` would cut it."""
    number, held = 1, ""
    for block in _decoded_blocks(path):
        held += _clean(block)
        begin = 0
        # A separator counts once the line break that may follow it has been read too.
        while 0 <= (found := held.find(SEPARATOR, begin)) <= len(held) - len(SEPARATOR) - 2:
            yield number, _without_line_end(held[begin:found])
            number += 1
            begin = found + len(SEPARATOR)
            begin += 2 if held.startswith("\r\n", begin) else held.startswith("\n", begin)
        # What is left goes on in the next block; cut only what no separator can still shorten.
        while found < 0 and len(held) - begin >= limit + _LONGEST_BREAK:
            cut = _cut(held, begin, begin + limit)
            yield number, held[begin:cut]
            begin = cut
        held = held[begin:]
    for text in held.split(SEPARATOR):
        yield number, _without_line_end(text)
        number += 1


def _without_line_end(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def _read_jsonl(path: Path, text_field: str | None, limit: int) -> Iterator[tuple[int, str]]:
    offset = 0
    read = _RecordReader(text_field)
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            where = f"{path}, line {number},"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise _not_utf8(path, offset + error.start) from error
            offset += len(line)
            if text.strip():
                yield number, read(_parse_json(text, where), where)


def _read_json(path: Path, text_field: str | None, limit: int) -> Iterator[tuple[int, str]]:
    with _open(path) as file:
        data = file.read()
    try:
        records = _parse_json(data.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error.start) from error
    if not isinstance(records, list):
        raise BadInput(f"{path} is not a list of texts; write one record a line, as .jsonl.")
    read = _RecordReader(text_field)
    for number, record in enumerate(records, 1):
        yield number, read(record, f"{path}, record {number},")


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", str(error))
        raise BadInput(f"{where} is not JSON ({reason}); correct it or take it out.") from error


def _read_parquet(path: Path, text_field: str | None, limit: int) -> Iterator[tuple[int, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def is_text(kind: Any) -> bool:
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
        return any(test(kind) for test in tests)

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            columns = {column.name: is_text(column.type) for column in file.schema_arrow}
            field = _choose_field(columns, text_field, str(path))
            for batch in file.iter_batches(_PARQUET_ROWS, columns=[field]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    yield number, text or ""
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 after record {number}; write it anew.") from error
    except pa.ArrowException as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise BadInput(f"{path} is no parquet file that can be read ({reason}).") from error


_READERS: Mapping[str, Callable[[Path, str | None, int], Iterator[tuple[int, str]]]] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
}
"""Each yields (record's number, text) for a path, the text's field and the characters allowed."""

_KINDS = ".txt, .jsonl, .json (or these as .gz), .parquet"


# Records


class _RecordReader:
    """The text of each record of one file; its first record decides which field that is."""

    def __init__(self, text_field: str | None) -> None:
        self._wanted = text_field
        self._field: str | None = None

    def __call__(self, record: object, where: str) -> str:
        if isinstance(record, str):
            return record
        if not isinstance(record, dict):
            raise BadInput(f"{where} is neither a text nor an object; correct it or take it out.")
        if self._field is None:
            likely = (self._wanted, *TEXT_FIELDS)
            columns = {
                name: isinstance(value, str) or (value is None and name in likely)
                for name, value in record.items()
            }
            self._field = _choose_field(columns, self._wanted, where)
        if self._field not in record:
            raise BadInput(
                f"{where} has no field {self._field!r}, only {_list(record)}; correct it or name "
                "the field that all have with --text-field."
            )
        text = record[self._field]
        if not isinstance(text, str | None):
            raise BadInput(
                f"{where} has no text in its field {self._field!r}, but a {type(text).__name__}; "
                "correct it or name another field with --text-field."
            )
        return text or ""


def _choose_field(columns: Mapping[str, bool], wanted: str | None, where: str) -> str:
    """The column that holds the text; `columns` says of each whether it is of strings."""
    texts = [name for name, is_text in columns.items() if is_text]
    if wanted is not None and wanted not in texts:
        what = "no text in its field" if wanted in columns else "no field"
        raise BadInput(
            f"{where} has {what} {wanted!r}, among {_list(columns)}; name another "
            "with --text-field."
        )
    if wanted is not None:
        return wanted
    for name in TEXT_FIELDS:
        if name in texts:
            return name
    if len(texts) == 1:
        return texts[0]
    what = "several fields of text" if texts else "no field of text"
    raise BadInput(
        f"{where} has {what} among {_list(columns)}; name the right one with --text-field."
    )


def _list(names: Mapping[str, object]) -> str:
    return ", ".join(repr(name) for name in names) or "none"


# The hub


def _hub_records(name: str, text_field: str | None) -> Callable[[], Records]:
    """What reads a dataset's records; BadInput where the hub has none of that name."""
    if _kind(Path(name)) in _READERS or not _DATASET_NAME.fullmatch(name):
        raise BadInput(f"There is no file or folder {name}; check the path.")
    try:
        import datasets
    except ImportError as error:
        raise BadInput(
            f"There is no file or folder {name}; if it is a dataset on the Hugging Face hub, "
            "install what reads it: pip install 'feature-atlas[hub]'."
        ) from error
    repository, _, config = name.partition(":")
    with _told_hub_errors(name):
        splits = datasets.load_dataset(repository, config or None, streaming=True)
        split = "train" if "train" in splits else next(iter(splits))

    def records() -> Records:
        read = _RecordReader(text_field)
        with _told_hub_errors(name):
            for number, record in enumerate(splits[split], 1):
                yield f"{split}#{number}", read(record, f"{name}, record {number},")

    return records


@contextlib.contextmanager
def _told_hub_errors(name: str) -> Iterator[None]:
    """The library raises errors of many kinds, its own and those of others below it."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise BadInput(
            f"{name} is no file or folder here, nor a dataset that the hub gives ({reason}); check "
            "the name, and the connection."
        ) from error
