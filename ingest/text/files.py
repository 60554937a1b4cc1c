"""Corpus files: texts as they stand in .txt, .jsonl, .json and .parquet, packed or not."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from atlas.errors import BadInput
from atlas.ingest.text.pieces import clean, last_cut
from atlas.ingest.text.records import RecordReader, choose_field

SEPARATOR = "<|endoftext|>"
"""Ends a document of a .txt file, as the file's end does.

A line break on either side of it, or at the file's end, is no part of a document.
"""

_BLOCK_BYTES = 1 << 20
_PARQUET_ROWS = 1024
_LONGEST_BREAK = len(f"\r\n{SEPARATOR}")

Records = Iterator[tuple[str, str]]
"""(where it comes from, text); neighbours of one origin are pieces of one text."""


def kind_of(path: Path) -> str:
    """'.jsonl' for stories.jsonl and stories.jsonl.gz."""
    name = path.name.lower()
    kind = Path(name.removesuffix(".gz")).suffix
    return "" if kind == ".parquet" and name.endswith(".gz") else kind


def corpus_files(folder: Path) -> list[Path]:
    """Every corpus file under a folder that is not hidden, ordered by the parts of its path."""

    def refuse(error: OSError) -> None:
        raise unreadable(Path(error.filename), error) from error

    found = []
    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(root, name) for name in names if not name.startswith(".")]
        found += [path for path in paths if kind_of(path) in READERS and path.is_file()]
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def read_files(root: Path, files: list[Path], text_field: str | None, limit: int) -> Records:
    """The texts of every file; `limit`: characters after which a long one may be cut."""
    for path in files:
        with _told_errors(path):
            for number, text in READERS[kind_of(path)](path, text_field, limit):
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
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> BadInput:
    """What to raise where the system refuses the path."""
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
        held += clean(block)
        begin = 0
        # A separator counts once the line break that may follow it has been read too.
        while 0 <= (found := held.find(SEPARATOR, begin)) <= len(held) - len(SEPARATOR) - 2:
            yield number, _without_line_end(held[begin:found])
            number += 1
            begin = found + len(SEPARATOR)
            begin += 2 if held.startswith("\r\n", begin) else held.startswith("\n", begin)
        # What is left goes on in the next block; cut only what no separator can still shorten.
        while found < 0 and len(held) - begin >= limit + _LONGEST_BREAK:
            cut = last_cut(held, begin, begin + limit)
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
    read = RecordReader(text_field)
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
    read = RecordReader(text_field)
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
            field = choose_field(columns, text_field, str(path))
            for batch in file.iter_batches(_PARQUET_ROWS, columns=[field]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    yield number, text or ""
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 after record {number}; write it anew.") from error
    except pa.ArrowException as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise BadInput(f"{path} is no parquet file that can be read ({reason}).") from error


READERS: Mapping[str, Callable[[Path, str | None, int], Iterator[tuple[int, str]]]] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
}
"""Each yields (record's number, text) for a path, the text's field and the characters allowed."""

KINDS = ".txt, .jsonl, .json (or these as .gz), .parquet"
