"""The text of the demo: the same documents on every call, and only the library's own words."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig

import pytest

from atlas.demo import text
from atlas.errors import BadInput
from atlas.ingest.text.corpus import MAX_CHARACTERS
from atlas.ingest.text.stdlib_corpus import stdlib_corpus

DIGEST = """
import hashlib
from atlas.demo.text import documents
digest = hashlib.sha256()
for name, text in documents():
    digest.update(f"{name}\\0{text}\\0".encode())
print(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def found():
    return list(text.documents())


def write(folder, **modules):
    for name, source in modules.items():
        path = folder.joinpath(*name.split("__in__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")


def docstrings(folder):
    return dict(text._docstrings(folder))


def test_enough_text_with_a_name_each(found):
    assert len(found) > 2000
    assert sum(len(body) for _, body in found) > 1_200_000
    assert len({name for name, _ in found}) == len(found)
    assert {"heapq", "heapq.merge", "topics/compound/the-while-statement"} <= {n for n, _ in found}


def test_every_text_can_be_stored_whole(found):
    for name, body in found:
        assert 40 <= len(body) <= MAX_CHARACTERS, name
        assert not text._CONTROL.search(body), name
        assert body.strip("\n") == body, name
        body.encode()


def test_the_same_in_every_process(found):
    digest = hashlib.sha256()
    for name, body in found:
        digest.update(f"{name}\0{body}\0".encode())
    elsewhere = subprocess.run(
        [sys.executable, "-c", DIGEST],
        env={**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert elsewhere.stdout.strip() == digest.hexdigest()


def test_held_out_documents_are_a_tenth_and_share_no_paragraph(found):
    held, seen = list(text.documents(held_out=True)), list(text.documents(held_out=False))
    assert held + seen == found  # in this order: they come first
    assert 0.07 < len(held) / len(found) < 0.13
    paragraphs = {p for _, body in seen for p in body.split("\n\n") if len(p) >= 60}
    assert not [p for _, body in held for p in body.split("\n\n") if p in paragraphs]


def test_whether_held_out_depends_on_the_name_alone():
    # Pinned: the shipped models were trained with these apart.
    names = ("inspect.ismemberdescriptor", "heapq.merge", "json", "argparse.ArgumentParser")
    assert [text.is_held_out(name) for name in names] == [True, False, True, False]


MODULE = '''
"""Of the module."""
"""No docstring."""
x = "neither"
if x:
    def conditional():
        """Below an if."""
class Outer:
    """Of the class.

        Indented.
    Not.
    """
    def method(self):
        """Of the method."""
        def inner():
            """Of the inner function."""
    async def other(self):
        "On one line."
'''


def test_docstrings_of_all_definitions_and_of_no_other_string(tmp_path):
    write(tmp_path, module=MODULE)
    assert docstrings(tmp_path) == {
        "module": "Of the module.",
        "module.conditional": "Below an if.",
        "module.Outer": "Of the class.\n\n    Indented.\nNot.\n\nOf the method.\n\n"
        "Of the inner function.\n\nOn one line.",
    }


def test_modules_are_neither_run_nor_taken_from_elsewhere(tmp_path):
    body = '"""Documented."""\nraise SystemExit("was run")\n'
    write(
        tmp_path,
        package__in____init__=body,
        package__in__part=body,
        package__in__test__in__helper=body,
        test__in__support=body,
        idlelib__in__editor=body,
    )
    write(tmp_path, **{"site-packages__in__other": body, "config-3.11__in__x": body})
    (tmp_path / "template.py").write_text("def broken(:\n")
    (tmp_path / "binary.py").write_bytes(b'"""\x00"""')
    assert docstrings(tmp_path) == {"package": "Documented.", "package.part": "Documented."}


def test_repeated_paragraphs_stay_where_they_are_read_first():
    seen: set[str] = set()
    long = "A paragraph that is long enough for its repetition to be noticed by anyone."
    assert text._without_repeats(f"{long}\n\nshort", seen) == f"{long}\n\nshort"
    assert text._without_repeats(f"before\n\n{long}\n\nshort", seen) == "before\n\nshort"


def test_long_texts_come_in_parts_cut_between_paragraphs():
    paragraphs = [f"{i} " + "x" * 900 for i in range(20)]
    parts = list(text._parts("\n\n".join(paragraphs)))
    assert len(parts) == 4
    assert "\n\n".join(parts).split("\n\n") == paragraphs
    assert all(len(part) <= 6000 for part in parts)


def test_a_python_without_sources_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(BadInput, match=r"no readable sources .*; use a Python that has them"):
        list(text.documents())


def test_as_a_corpus_it_is_the_same_documents(found):
    corpus = stdlib_corpus()
    assert [(document.source, document.text) for document in corpus] == found
    assert corpus.name == "stdlib"
    assert "standard library" in corpus.source
