"""Corpora: every form of text comes out as the same documents, and bad ones are told."""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
import tracemalloc
import types
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atlas.errors import BadInput
from atlas.ingest.text import files
from atlas.ingest.text.corpus import Corpus, Document, open_corpus
from atlas.ingest.text.files import SEPARATOR
from atlas.ingest.text.pieces import split_text

STORIES = ["One day.\n\nTwo days.", "Ünïcode 👩‍👧 中文", "last"]


def texts(source, **options) -> list[str]:
    return [document.text for document in open_corpus(source, **options)]


def refusal(source, **options) -> str:
    with pytest.raises(BadInput) as caught:
        list(open_corpus(source, **options))
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def write(path, content: str | bytes):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(records) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


# Splitting

PIECES = st.text(alphabet="ab \n\r\t\u0301\u200d👩中", max_size=200)


@given(PIECES, st.integers(1, 30))
@example("a" * 50, 1)
@example("\r\n" * 20, 3)
def test_splitting_loses_no_character_and_keeps_the_limit(text, limit):
    pieces = list(split_text(text, limit))
    assert "".join(pieces) == text
    assert all(len(piece) <= limit for piece in pieces)
    assert all(pieces) or text == ""


@pytest.mark.parametrize(
    "text, pieces",
    [
        ("aaaa\n\nbb\ncc dddd", ["aaaa\n\n", "bb\ncc dddd"]),
        ("aaaa bb\ncc dddd", ["aaaa bb\n", "cc dddd"]),
        ("aaaa bb cc dddd", ["aaaa bb ", "cc dddd"]),
        ("a\n\nbbbbbbbbbbbb", ["a\n\nbbbbbbb", "bbbbb"]),  # the blank line is too early to count
        ("aaaa\n \nbb\ncc dddd", ["aaaa\n \n", "bb\ncc dddd"]),
        ("aaaaaaaaae\u0301bb", ["aaaaaaaaa", "e\u0301bb"]),  # a letter keeps its accent
        ("aaaaaaaaa\r\nbb", ["aaaaaaaaa", "\r\nbb"]),
        ("aaaaaaaa👩\u200d👧bb", ["aaaaaaaa", "👩\u200d👧bb"]),
    ],
)
def test_a_long_text_is_cut_where_it_breaks(text, pieces):
    assert list(split_text(text, 10)) == pieces


def test_a_long_text_becomes_numbered_documents(tmp_path):
    path = write(tmp_path / "long.txt", f"first{SEPARATOR}{'word ' * 10}")
    assert list(open_corpus(path, max_characters=20)) == [
        Document("long.txt#1", "first"),
        Document("long.txt#2", "word word word word "),
        Document("long.txt#2.2", "word word word word "),
        Document("long.txt#2.3", "word word "),
    ]


# Plain text


@given(
    st.lists(st.text(alphabet="ab \n\r\0é👩<|endoftx>", max_size=80), max_size=6),
    st.sampled_from(["\n", "\r\n", ""]),
    st.integers(1, 40),
    st.integers(1, 50),
)
def test_blocks_of_any_size_give_the_same_documents(stories, newline, block, limit):
    # The fixtures tmp_path and monkeypatch would be shared by all examples.
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        content = f"{newline}{SEPARATOR}{newline}".join([*stories, "end"])
        path = write(Path(folder, "stories.txt"), content)
        expected = list(open_corpus(path, max_characters=limit))
        patch.setattr(files, "_BLOCK_BYTES", block)
        assert list(open_corpus(path, max_characters=limit)) == expected


@pytest.mark.parametrize("newline", ["\n", "\r\n", ""])
def test_separators_and_the_line_breaks_around_them_are_not_text(tmp_path, newline):
    path = write(tmp_path / "stories.txt", f"{newline}{SEPARATOR}{newline}".join(STORIES) + newline)
    assert list(open_corpus(path)) == [
        Document(f"stories.txt#{i}", story) for i, story in enumerate(STORIES, 1)
    ]


def test_text_is_kept_as_it_stands(tmp_path):
    text = "  a\r\nb\tc\u2028d\x0b e\u0301 \n\n f "
    assert texts(write(tmp_path / "a.txt", f"{text}{SEPARATOR}x")) == [text, "x"]


def test_a_byte_order_mark_is_no_text(tmp_path):
    mark = b"\xef\xbb\xbf"
    assert texts(write(tmp_path / "a.txt", mark + b"abc")) == ["abc"]
    assert texts(write(tmp_path / "a.jsonl", mark + b'"abc"\n')) == ["abc"]
    assert texts(write(tmp_path / "a.json", mark + b'["abc"]')) == ["abc"]


def test_documents_without_text_are_skipped(tmp_path):
    path = write(tmp_path / "a.txt", f"{SEPARATOR}a{SEPARATOR} \n\t{SEPARATOR}{SEPARATOR}b")
    assert list(open_corpus(path)) == [Document("a.txt#2", "a"), Document("a.txt#5", "b")]


# Records


@pytest.fixture(params=["jsonl", "ndjson", "json", "parquet", "jsonl.gz", "json.gz", "txt.gz"])
def stories_file(request, tmp_path):
    kind = request.param
    path = tmp_path / f"stories.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"id": [1, 2, 3], "text": STORIES}), path)
        return path
    records = [{"id": i, "text": story} for i, story in enumerate(STORIES)]
    plain = {"txt": SEPARATOR.join(STORIES), "json": json.dumps(records)}
    content = plain.get(kind.removesuffix(".gz"), lines(records)).encode()
    return write(path, gzip.compress(content) if kind.endswith(".gz") else content)


def test_every_kind_of_file_gives_the_same_documents(stories_file):
    corpus = open_corpus(stories_file)
    assert corpus.name == "stories"
    assert corpus.source == str(stories_file)
    expected = [Document(f"{stories_file.name}#{i}", text) for i, text in enumerate(STORIES, 1)]
    assert list(corpus) == expected
    assert list(corpus) == expected  # and again


@pytest.mark.parametrize(
    "record, text_field",
    [
        ({"content": "a", "title": "b"}, None),
        ({"story": "a", "title": "b"}, None),
        ({"text": "a", "story": "b"}, None),
        ({"title": "a", "id": 3, "parent": None}, None),
        ({"text": "b", "title": "a"}, "title"),
    ],
)
def test_the_field_of_text_is_found(tmp_path, record, text_field):
    path = write(tmp_path / "a.jsonl", lines([record, record]))
    assert texts(path, text_field=text_field) == ["a", "a"]
    pq.write_table(pa.Table.from_pylist([record, record]), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet", text_field=text_field) == ["a", "a"]


def test_lines_may_be_blank_and_texts_null(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": null}\n\n"a"\r\n{"text": "b"}')
    assert list(open_corpus(path)) == [Document("a.jsonl#3", "a"), Document("a.jsonl#4", "b")]


def test_parquet_strings_of_every_type(tmp_path):
    for kind in [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]:
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table({"text": pa.array(["a", None, "b"], kind)}), path)
        assert texts(path) == ["a", "b"]


def test_what_no_database_can_hold_is_replaced(tmp_path):
    path = write(tmp_path / "a.jsonl", r'"a\ud800b\u0000c \ud83d\udc4d"')
    assert texts(path) == ["a\ufffdb\ufffdc 👍"]


# Folders


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    for name in ["b.txt", "a/z.txt", "a/B.jsonl", "c.md", ".hidden.txt", ".git/x.txt", "a.txt"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        write(path, json.dumps(name) if name.endswith("l") else name)
    corpus = open_corpus(tmp_path)
    assert [(d.source, d.text) for d in corpus] == [
        ("a/B.jsonl#1", "a/B.jsonl"),
        ("a/z.txt#1", "a/z.txt"),
        ("a.txt#1", "a.txt"),
        ("b.txt#1", "b.txt"),
    ]
    assert corpus.name == tmp_path.name


def test_an_iteration_holds_one_block_not_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_BLOCK_BYTES", 1 << 10)
    path = tmp_path / "long.txt"
    write(path, "a line of words\n" * 100_000)
    documents = iter(open_corpus(path, max_characters=500))
    next(documents)
    tracemalloc.start()
    for _ in range(2_000):
        next(documents)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000  # of 1.6 MB


def test_real_stories(shared_data):
    folder = shared_data / "text" / "tinystories"
    stories = texts(folder / "tinystories_1000_clean.txt")
    assert len(stories) == 1000
    assert all(story == story.strip("\n") for story in stories)
    assert len(texts(folder / "tinystories_1000.json")) == 1000
    assert len(texts(folder)) == 2000


# Bad input


def test_text_that_is_no_utf8_is_told_with_its_place(tmp_path, monkeypatch):
    latin = "café au lait".encode("latin-1")
    sentence = refusal(write(tmp_path / "a.txt", b"x" * 10 + latin))
    assert "a.txt is not UTF-8 at byte 13;" in sentence
    assert "at byte 0;" in refusal(write(tmp_path / "u.txt", "abc".encode("utf-16")))
    assert "at byte 7;" in refusal(write(tmp_path / "b.jsonl", b'"ok"\n"x\xff"\n'))
    assert "at byte 2;" in refusal(write(tmp_path / "c.json", b'["\xff"]'))
    assert "at byte 1 of what it unpacks to;" in refusal(
        write(tmp_path / "d.txt.gz", gzip.compress(b"a\xff"))
    )
    monkeypatch.setattr(files, "_BLOCK_BYTES", 3)  # a character across two blocks
    assert "at byte 8;" in refusal(write(tmp_path / "e.txt", "aé中x".encode() + b"b\xe4\xb8"))


@pytest.mark.parametrize(
    "name, content",
    [("a.txt", ""), ("a.txt", f" \n{SEPARATOR}\n"), ("a.jsonl", "\n"), ("a.json", "[]")],
)
def test_a_corpus_without_text_is_refused(tmp_path, name, content):
    assert "a.txt holds no text" in refusal(write(tmp_path / name, content)).replace(name, "a.txt")


def test_wrong_lines_are_told_with_file_and_line(tmp_path):
    path = tmp_path / "a.jsonl"
    good = '{"text": "a"}\n'
    assert f"{path}, line 2, is not JSON (Expecting" in refusal(write(path, good + "{text: b}\n"))
    assert f"{path}, line 2, is not JSON" in refusal(write(path, good + '{"text": "cut of'))
    assert f"{path}, line 2, is neither" in refusal(write(path, good + "[1]\n"))
    assert "line 2, has no field 'text', only 'b'" in refusal(write(path, good + '{"b": "x"}\n'))
    assert "in its field 'text', but a list" in refusal(write(path, good + '{"text": ["b"]}\n'))
    assert "line 1, is not JSON" in refusal(write(path, "[" * 100_000))
    assert "line 1, is not JSON" in refusal(write(path, "9" * 5_000))


def test_a_json_file_that_is_no_list_is_refused(tmp_path):
    assert "is not a list of texts" in refusal(write(tmp_path / "a.json", '{"text": "a"}'))
    assert "is not JSON" in refusal(write(tmp_path / "a.json", '["a",'))
    assert "a.json, record 2, is neither" in refusal(write(tmp_path / "a.json", '["a", 1]'))


@pytest.mark.parametrize(
    "columns, text_field, sentence",
    [
        ({"a": ["x"], "b": ["y"]}, None, "has several fields of text among 'a', 'b'; name"),
        ({"a": [1], "b": [2.0]}, None, "has no field of text among 'a', 'b'; name"),
        ({"a": [1], "b": ["y"]}, "c", "has no field 'c', among 'a', 'b'; name another"),
        ({"a": [1], "b": ["y"]}, "a", "has no text in its field 'a', among 'a', 'b'; name another"),
    ],
)
def test_records_whose_text_cannot_be_found_are_refused(tmp_path, columns, text_field, sentence):
    table = pa.table(columns)
    pq.write_table(table, tmp_path / "a.parquet")
    assert f"a.parquet {sentence}" in refusal(tmp_path / "a.parquet", text_field=text_field)
    path = write(tmp_path / "a.jsonl", lines(table.to_pylist()))
    assert f"a.jsonl, line 1, {sentence}" in refusal(path, text_field=text_field)


def test_damaged_files_are_refused(tmp_path):
    packed = gzip.compress(lines(f"story {i}" for i in range(1000)).encode())
    for damaged in [packed[:-20], packed[:50] + b"\0\0\0\0" + packed[54:], b"no gzip"]:
        sentence = refusal(write(tmp_path / "a.jsonl.gz", damaged))
        assert "a.jsonl.gz is no gzip file or is cut short" in sentence
    pq.write_table(pa.table({"text": STORIES}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    for damaged in [whole[:-10], b"no parquet", b""]:
        sentence = refusal(write(tmp_path / "a.parquet", damaged))
        assert "a.parquet is no parquet file that can be read" in sentence


def test_files_of_other_kinds_are_refused(tmp_path):
    assert "a.csv is no corpus file" in refusal(write(tmp_path / "a.csv", "text\na\n"))
    assert "a.parquet.gz is no corpus file" in refusal(write(tmp_path / "a.parquet.gz", ""))
    (tmp_path / "empty").mkdir()
    assert "empty has no corpus file" in refusal(tmp_path / "empty")


@pytest.mark.parametrize(
    "source",
    ["no/such/place.txt", "stories.txt", "./stories", "/no/where", "a b", "a\0b", "x" * 5000],
)
def test_a_path_that_is_not_there_is_refused(source):
    sentence = refusal(source)
    assert "no file or folder" in sentence or "cannot be read" in sentence


def test_no_name_is_not_the_current_folder():
    assert "no name" in refusal(" ")


def test_what_may_not_be_read_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.txt", "a")

    def deny(*_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:  # as root, chmod forbids nothing
        patch.setattr(files, "_open", deny)
        assert f"{path} cannot be read (Permission denied)" in refusal(path)

    def denied_walk(folder, onerror):
        onerror(PermissionError(13, "Permission denied", str(folder)))
        return iter(())

    monkeypatch.setattr(files.os, "walk", denied_walk)
    assert f"{tmp_path} cannot be read (Permission denied)" in refusal(tmp_path)


# The hub


def fake_hub(monkeypatch, load_dataset) -> None:
    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)


def test_a_dataset_is_streamed_from_its_training_split(monkeypatch):
    asked = []

    def load_dataset(name, config, *, streaming):
        asked.append((name, config, streaming))
        return {"test": [{"text": "no"}], "train": [{"id": 1, "text": t} for t in STORIES]}

    fake_hub(monkeypatch, load_dataset)
    corpus = open_corpus("someone/stories:small")
    assert asked == [("someone/stories", "small", True)]
    assert corpus.name == "someone/stories:small"
    assert list(corpus) == list(corpus)
    assert next(iter(corpus)) == Document("train#1", STORIES[0])


def test_a_dataset_that_cannot_be_had_is_told_in_a_sentence(monkeypatch):
    def load_dataset(name, config, *, streaming):
        raise ConnectionError("Couldn't reach it.\nRetrying")

    fake_hub(monkeypatch, load_dataset)
    sentence = refusal("someone/stories")
    assert "someone/stories is no file or folder here" in sentence
    assert "(Couldn't reach it)" in sentence


def test_a_dataset_that_breaks_off_is_told_in_a_sentence(monkeypatch):
    def broken():
        yield {"text": "a"}
        raise TimeoutError("took too long")

    fake_hub(monkeypatch, lambda *_, **__: {"validation": broken()})
    assert "(took too long)" in refusal("stories")


def test_without_the_extra_a_name_is_answered_with_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    sentence = refusal("someone/stories")
    assert "no file or folder someone/stories" in sentence
    assert "pip install 'feature-atlas[hub]'" in sentence


def test_a_corpus_can_be_made_of_any_records():
    corpus = Corpus("mine", "memory", lambda: iter([("a", "one two"), ("a", "three"), ("b", "x")]))
    assert [d.source for d in corpus] == ["a", "a.2", "b"]
    with pytest.raises(ValueError, match="positive"):
        Corpus("mine", "memory", lambda: iter(()), max_characters=0)
