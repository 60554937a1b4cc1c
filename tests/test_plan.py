"""Options of an ingest: what they mean, and what is refused before anything begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.errors import BadInput
from atlas.ingest.plan import (
    IngestOptions,
    check_options,
    corpus_fingerprint,
    default_name,
    parse_count,
    parse_layers,
    parse_width,
)


@pytest.mark.parametrize(
    ("text", "count"), [("1", 1), ("300k", 300_000), ("2M", 2_000_000), ("1.5G", 1_500_000_000)]
)
def test_counts(text: str, count: int) -> None:
    assert parse_count(text, "--train-tokens") == count


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1e6", "2m", "k", "0.4", "٣", "2 M", "nan", "1_000"]
)
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(BadInput, match="--train-tokens"):
        parse_count(text, "--train-tokens")


@pytest.mark.parametrize(
    ("text", "layers"),
    [("all", (0, 1, 2, 3, 4)), ("0", (0,)), ("0,2-4", (0, 2, 3, 4)), ("4,1,1-2", (1, 2, 4))],
)
def test_layers(text: str, layers: tuple[int, ...]) -> None:
    assert parse_layers(text, 5) == layers


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("5", "layers 0 to 4"),
        ("0-5", "layers 0 to 4"),
        ("3-1", "counts down"),
        ("", "no list"),
        ("-1", "no list"),
        ("a", "no list"),
        ("1,,2", "no list"),
        ("1.5", "no list"),
    ],
)
def test_what_is_no_layer(text: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        parse_layers(text, 5)


@given(st.sets(st.integers(0, 30), min_size=1))
def test_any_set_of_layers_can_be_written(layers: set[int]) -> None:
    assert parse_layers(",".join(map(str, layers)), 31) == tuple(sorted(layers))


def test_widths() -> None:
    assert parse_width("1024", 64) == 1024
    assert parse_width("8x", 64) == 512
    for bad in ("0", "0x", "x", "-1", "8.5x", ""):
        with pytest.raises(BadInput, match="--width"):
            parse_width(bad, 64)


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"train_tokens": "many"}, "--train-tokens"),
        ({"reference_tokens": "0"}, "--reference-tokens"),
        ({"width": "0"}, "--width"),
        ({"k": "0"}, "--k"),
        ({"k": "4,4"}, "--k"),
        ({"width": "8x,,4x"}, "--width"),
        ({"hook": "mlp_in:resid"}, "--hook"),
        ({"settings": ("bandwidth",)}, "--set"),
        ({"context": 1}, "--context"),
        ({"seed": -1}, "--seed"),
        ({"hook": "resid"}, "--hook"),
        ({"layers": "x"}, "--layers"),
        ({"name": "a/"}, "--name"),
        ({"variant": "a b"}, "variant"),
    ],
)
def test_options_are_refused_by_name(change: dict[str, object], option: str) -> None:
    with pytest.raises(BadInput, match=option):
        check_options(IngestOptions(model="m", **change))  # type: ignore[arg-type]


def test_default_options_are_fine() -> None:
    check_options(IngestOptions(model="m"))


def test_default_names(tmp_path: Path) -> None:
    folder = tmp_path / "pythia-70m"
    folder.mkdir()
    assert default_name(f"{folder}/") == "pythia-70m"
    assert default_name("EleutherAI/pythia-70m") == "pythia-70m"


def test_a_corpus_has_the_same_fingerprint_wherever_it_lies(tmp_path: Path) -> None:
    prints = []
    for place in ("a", "b"):
        folder = tmp_path / place / "texts"
        folder.mkdir(parents=True)
        (folder / "1.txt").write_text("one")
        (folder / "2.txt").write_bytes(b"x" * 3_000_000)
        prints.append(corpus_fingerprint(str(folder), None))
    assert prints[0] == prints[1]
    assert corpus_fingerprint(str(folder), "story") != prints[0]


@pytest.mark.parametrize("change", ["first", "last", "length", "name"])
def test_a_changed_corpus_has_another_fingerprint(tmp_path: Path, change: str) -> None:
    file = tmp_path / "1.txt"
    content = bytearray(3_000_000)
    file.write_bytes(content)
    before = corpus_fingerprint(str(tmp_path), None)
    if change == "first":
        content[0] = 1
    elif change == "last":
        content[-1] = 1
    elif change == "length":
        content.append(0)
    file.write_bytes(content)
    if change == "name":
        file.rename(tmp_path / "2.txt")
    assert corpus_fingerprint(str(tmp_path), None) != before
