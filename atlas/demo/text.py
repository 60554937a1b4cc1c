"""The demo's text: the standard library's own documentation, read where Python is installed.

Every Python carries some 1.7 million characters of technical English: the language reference that
`help()` prints (`pydoc_data.topics`) and the docstrings of the library's modules. They are read at
run time, so that the package ships none of them. Docstrings come from the syntax trees of the
source files: no module is imported, hence nothing runs and nothing depends on the platform.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import sysconfig
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from atlas.errors import BadInput

HELD_OUT_SHARE = 0.1
"""Share of the documents (by hash of their names) that the demo's models were not trained on."""

_SKIPPED_PACKAGES = frozenset(
    {
        # absent from many installations, or from newer versions
        *("distutils", "ensurepip", "idlelib", "lib2to3", "tkinter", "turtledemo"),
        *("encodings",),  # one and the same page for each codec
        *("pydoc_data", "site-packages", "dist-packages"),  # no modules of the library
    }
)
_SKIPPED_FOLDERS = frozenset({"test", "tests", "idle_test", "__pycache__"})
_MIN_CHARACTERS = 40  # shorter texts are "See the base class." and its like
_PART_CHARACTERS = 6_000  # longer texts are cut between paragraphs
_REPEATED_PARAGRAPH = 60  # from this length on, a paragraph is kept only where it is read first
_LEAST_DOCSTRINGS = 500_000  # characters; any Python with its sources has more than twice that
_HEADING = re.compile(r"^(?=(\S.*)\n([*=\-~^])\2+$)", re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def documents(held_out: bool | None = None) -> Iterator[tuple[str, str]]:
    """Yield `(name, text)` of every document; the same ones in the same order on every call.

    A document is one section of a help topic (`topics/compound/the-while-statement`), a module's
    docstring (`heapq`), or the docstrings of one top-level class or function with all it contains
    (`heapq.merge`); very long ones come in parts (`turtle.RawTurtle#2`). They follow the order of a
    hash of their names, so that any prefix is a fair sample of the whole and another Python version
    moves none of the documents it shares. The held-out ones come first.

    held_out: only the documents the demo's models were not trained on (True), only the others
        (False), or all (None).

    Raises BadInput where this Python came without its library's sources.
    """
    for name, text in _ordered(Path(sysconfig.get_path("stdlib"))):
        if held_out is None or held_out == is_held_out(name):
            yield name, text


def is_held_out(name: str) -> bool:
    """Whether the document of that name was kept from the training of the demo's models."""
    return _rank(name) < HELD_OUT_SHARE * 2**64


def _rank(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


@cache
def _ordered(library: Path) -> tuple[tuple[str, str], ...]:
    """All documents in the order of their names' hash; kept, as parsing the library takes 3 s."""
    paragraphs: set[str] = set()
    texts: set[str] = set()
    found: dict[str, str] = {}
    for name, text in (*_topics(), *_docstrings(library)):
        text = _without_repeats(_CONTROL.sub("", text), paragraphs)
        for number, part in enumerate(_parts(text), start=1):
            if len(part) >= _MIN_CHARACTERS and part not in texts:
                texts.add(part)
                found.setdefault(name if number == 1 else f"{name}#{number}", part)
    docstrings = (text for name, text in found.items() if not name.startswith("topics/"))
    if sum(map(len, docstrings)) < _LEAST_DOCSTRINGS:
        raise BadInput(
            f"this Python has no readable sources of its standard library in {library}; "
            "use a Python that has them, or `atlas ingest` with a --corpus of your own"
        )
    return tuple(sorted(found.items(), key=lambda item: _rank(item[0])))


def _without_repeats(text: str, seen: set[str]) -> str:
    """Drop the longer paragraphs that occurred before: help topics include each other's sections.

    Without this, held-out documents would share pages with those trained on.
    """
    kept = []
    for paragraph in text.split("\n\n"):
        if len(paragraph) >= _REPEATED_PARAGRAPH:
            if paragraph in seen:
                continue
            seen.add(paragraph)
        kept.append(paragraph)
    return "\n\n".join(kept).strip("\n")


def _parts(text: str) -> Iterator[str]:
    """Cut `text` at blank lines into parts of at most `_PART_CHARACTERS`, if its lines allow."""
    part = ""
    for paragraph in text.split("\n\n"):
        if part and len(part) + len(paragraph) > _PART_CHARACTERS:
            yield part.strip("\n")
            part = ""
        part += paragraph + "\n\n"
    yield part.strip("\n")


def _topics() -> Iterator[tuple[str, str]]:
    """Sections of the help topics, cut before each underlined heading."""
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions package it apart
        return
    for name in sorted(topics):
        before, *pieces = _HEADING.split(topics[name])
        yield f"topics/{name}", before
        for heading, section in zip(pieces[::3], pieces[2::3], strict=True):
            slug = "-".join(re.findall(r"\w+", heading.lower()))
            yield f"topics/{name}/{slug}", section


def _docstrings(library: Path) -> Iterator[tuple[str, str]]:
    """Docstrings of every module below `library`, in the order of their paths."""
    for path in sorted(library.rglob("*.py")):
        folders = path.relative_to(library).parts
        if (
            folders[0] in _SKIPPED_PACKAGES
            or folders[0].startswith("config-")
            or not _SKIPPED_FOLDERS.isdisjoint(folders)
        ):
            continue
        module = ".".join(path.relative_to(library).with_suffix("").parts)
        yield from _module_docstrings(module.removesuffix(".__init__"), path.read_bytes())


def _module_docstrings(module: str, source: bytes) -> Iterator[tuple[str, str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in old sources are not our business
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):  # a template rather than a module
            return
    if text := ast.get_docstring(tree, clean=False):
        yield module, inspect.cleandoc(text)
    # Definitions under a top-level `if` or `try` are part of the module's interface as well.
    for node in _definitions(tree):
        yield f"{module}.{node.name}", "\n\n".join(_texts(node))


_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _definitions(node: ast.AST) -> Iterator[_Definition]:
    """The outermost classes and functions below `node`, in source order."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Definition):
            yield child
        else:
            yield from _definitions(child)


def _texts(node: _Definition) -> Iterator[str]:
    """The docstring of `node` and of all it contains, in source order."""
    if text := ast.get_docstring(node, clean=False):
        yield inspect.cleandoc(text)
    for inner in _definitions(node):
        yield from _texts(inner)
