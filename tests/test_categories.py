"""Categories: the lists, the files they are read from, and the features found by them."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

import atlas
from atlas import Atlas
from atlas.compare.semantic import members
from atlas.compare.top_texts import non_concept_texts, top_texts
from atlas.errors import AtlasError, BadInput, NotFound
from atlas.ingest.text.categories import change_categories, keyword, read_lists
from atlas.ingest.text.words import word_spans
from tests.commandline import invoke, succeed, told
from tests.synthetic import SAES

PLANTED = {
    "pets": ["dog", "cat"],
    "toddlers": ["Lily", "tom", "TOM"],
    "feelings": ["happy", "sad"],
    "phrases": ["the little dog", "a big", "the"],
    "absent": ["xylophone"],
}


@pytest.fixture(scope="module")
def planted(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic atlas with lists of its own words."""
    folder = tmp_path_factory.mktemp("categories")
    path = folder / "planted.atlas"
    shutil.copyfile(toy, path)
    (folder / "planted.json").write_text(json.dumps(PLANTED))
    with atlas.open(path, write=True) as store:
        change_categories(store, add=[folder / "planted.json"])
    return path


@pytest.fixture(scope="module")
def store(planted: Path) -> Iterator[Atlas]:
    with atlas.open(planted) as opened:
        yield opened


# -- the repository's own lists ------------------------------------------------------------------


def own_lists(store: Atlas) -> list[tuple[str, str]]:
    return store.rows("select category, word from categories where source = 'feature-atlas'")


def test_own_lists_are_tidy(store: Atlas) -> None:
    found = own_lists(store)
    assert max(Counter(found).values()) == 1
    assert max(Counter(word for _, word in found).values()) <= 2
    sizes = Counter(category for category, _ in found)
    assert all(25 <= size <= 90 for name, size in sizes.items() if name != "months")
    asked = "emotions time calendar people nature countries months biology"
    assert set(asked.split()) < set(sizes)


def test_own_words_are_words_of_a_corpus(store: Atlas) -> None:
    for _, word in own_lists(store):
        starts, _ = word_spans(word)
        assert len(starts) == 1, word
        assert word == word.lower().strip()


def test_non_concepts_are_the_published_ones(store: Atlas) -> None:
    assert non_concept_texts(store.cursor()) == {
        ".", "\n", "\\n", "", " ", "-", ",", "!", "?", "<|endoftext|>", "<bos>", "|bos|", "<pad>",
    }  # fmt: skip


# -- features found ------------------------------------------------------------------------------


@pytest.mark.parametrize("sae_id", range(len(SAES)))
@pytest.mark.parametrize("n_top", [1, 5, 12])
def test_members_have_a_keyword_among_their_top_texts(
    store: Atlas, sae_id: int, n_top: int
) -> None:
    texts = top_texts(store.cursor(), sae_id, "words", n_top)
    found = members(store.cursor(), sae_id, n_top)
    for category in ("pets", "toddlers", "feelings", "absent", "animals", "family"):
        words = {
            word
            for (word,) in store.rows("select word from categories where category = ?", [category])
        }
        expected = [index for index, one in enumerate(texts) if one & words]
        assert found[category].tolist() == expected
        assert found[category].dtype == np.int64
    assert not len(found["absent"])
    assert len(found["pets"])


def test_members_of_some_categories(store: Atlas) -> None:
    some = members(store.cursor(), 0, categories=["pets", "absent"])
    assert sorted(some) == ["absent", "pets"]
    with pytest.raises(NotFound, match="nearest are pets"):
        members(store.cursor(), 0, categories=["petz"])
    with pytest.raises(BadInput, match="at least 1 and at most 5"):
        members(store.cursor(), 0, least=6)


def strongest_words(store: Atlas, feature_id: int, n: int) -> list[int]:
    return [
        word
        for (word,) in store.rows(
            "select word from word_activations where feature_id = ? order by q desc, word limit ?",
            [feature_id, n],
        )
    ]


def test_hits_words_and_share_are_counted(store: Atlas) -> None:
    forms = [form.lower() for (form,) in store.rows("select form from words order by word")]
    found = store.rows(
        "select hits, words, share, feature_id from category_features('feelings', n := 7)"
    )
    assert found
    assert [row[0] for row in found] == sorted((row[0] for row in found), reverse=True)
    for hits, words, share, feature_id in found:
        strongest = [forms[word] for word in strongest_words(store, feature_id, 7)]
        hit = [form for form in strongest if form in PLANTED["feelings"]]
        assert (hits, words) == (len(hit), list(dict.fromkeys(hit)))
        ((on_keywords, total),) = store.rows(
            "select sum(word_stats.sum_q) filter (form in ('happy', 'sad')), any_value(word_sum_q)"
            " from word_stats join features using (feature_id) where feature_id = ?",
            [feature_id],
        )
        assert share == pytest.approx((on_keywords or 0) / total)


def test_the_macro_and_the_library_find_the_same(store: Atlas) -> None:
    for sae_id, name in enumerate(SAES):
        for least in (1, 3):
            found = members(store.cursor(), sae_id, least=least)
            rows = store.rows(
                "select category, index from category_features(within := ?, least := ?)"
                " join features using (feature_id) order by all",
                [name, least],
            )
            assert rows == [(c, i) for c, indices in found.items() for i in indices.tolist()]


def test_the_macro_joins_laterally(store: Atlas) -> None:
    by_sae = store.rows(
        "select found.feature_id from sae_cards, category_features('pets', within := sae) as found"
        " order by all"
    )
    assert by_sae == store.rows("select feature_id from category_features('pets') order by all")


def test_phrases_match_where_their_words_follow_each_other(store: Atlas) -> None:
    words = store.rows("select word, lower(form), document_id from words order by word")
    expected = set()
    for phrase in (["the", "little", "dog"], ["a", "big"], ["the"]):
        for at in range(len(words) - len(phrase) + 1):
            here = words[at : at + len(phrase)]
            if [form for _, form, _ in here] == phrase and len({doc for *_, doc in here}) == 1:
                expected |= {word for word, *_ in here}
    found = store.rows("select word from _keyword_places where category = 'phrases' order by word")
    assert [word for (word,) in found] == sorted(expected)
    assert any(words[word][1] == "big" for word in expected)


def test_words_match_whatever_their_case_and_composition(tmp_path: Path, toy: Path) -> None:
    path = tmp_path / "a.atlas"
    shutil.copyfile(toy, path)
    (tmp_path / "list.tsv").write_text("odd\tCAFE\u0301\tDon’t\tÜNDER\n")
    with atlas.open(path, write=True) as changed:
        change_categories(changed, add=[tmp_path / "list.tsv"])
        found = changed.rows(
            "select distinct lower(form) from words join _keyword_places using (word)"
            " where category = 'odd' order by 1"
        )
        in_corpus = {form for (form,) in changed.rows("select distinct lower(form) from words")}
    assert {form for (form,) in found} == {"café", "don't", "ünder"} & in_corpus
    assert len(found) >= 2


# -- files ---------------------------------------------------------------------------------------

TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]),
    min_size=1,
    max_size=8,
)
LISTS = st.dictionaries(TEXT, st.lists(TEXT, min_size=1, max_size=5), min_size=1, max_size=5)


def written(lists: dict[str, list[str]], form: str) -> tuple[str, str]:
    """File name and text of lists in one of the forms."""
    if form == "json":
        return "a.json", json.dumps(lists)
    rows = [[name, *words] for name, words in lists.items()]
    pairs = [
        ["category", "word"],
        *([name, word] for name, words in lists.items() for word in words),
    ]
    if form == "lines":
        return "a.txt", "".join("\t".join(row) + "\n" for row in rows)
    if form == "tsv":
        return "a.tsv", "".join("\t".join(row) + "\r\n" for row in pairs)
    buffer = io.StringIO()
    csv.writer(buffer).writerows(pairs if form == "csv" else rows)
    return "a.csv", buffer.getvalue()


@pytest.mark.parametrize("form", ["json", "lines", "tsv", "csv", "csv lines"])
@settings(max_examples=60, deadline=None)
@given(lists=LISTS)
def test_lists_are_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, form: str, lists: dict[str, list[str]]
) -> None:
    folder = tmp_path_factory.mktemp("lists")
    name, text = written(lists, form)
    (folder / name).write_text(text, encoding="utf-8", newline="")
    assert read_lists(folder / name) == lists


@given(st.text(max_size=20))
def test_a_keyword_has_the_text_but_its_white_space(text: str) -> None:
    made = keyword(text)
    assert regex.sub(r"\s", "", made) == regex.sub(r"\s", "", text)
    assert not regex.search(r"^\s|\s$|\s\s", made)


def test_a_keyword_of_several_words() -> None:
    assert keyword(" New   York ") == "New York"
    assert keyword("ice-cream") == "ice - cream"
    assert keyword("don't") == "don't"
    assert keyword(" \n") == ""


BAD_FILES = {
    "empty.txt": ("", "is empty"),
    "alone.tsv": ("pets\n", "Line 1 of .*alone.tsv has no words"),
    "unnamed.tsv": ("a\tb\n\tdog\n", "line 2 of .* has no name"),
    "half.json": ('{"pets": ["dog"', "is not JSON"),
    "list.json": ('["dog"]', "JSON of another form"),
    "numbers.json": ('{"pets": [1]}', "JSON of another form"),
    "none.json": ('{"pets": []}', "has no words"),
    "pair.csv": ("category,word\npets,\n", "Line 2 of .* has no words"),
    "quote.csv": ('pets,"dog', "is not CSV"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_told_and_nothing_is_written(
    planted: Path, tmp_path: Path, name: str
) -> None:
    text, sentence = BAD_FILES[name]
    (tmp_path / "good.tsv").write_text("good\tdog\n")
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=sentence):
        read_lists(tmp_path / name)
    path = tmp_path / "a.atlas"
    shutil.copyfile(planted, path)
    added = ["--add", tmp_path / "good.tsv", "--add", tmp_path / name]
    told(invoke("categories", path, "--remove", "pets", *added))
    with atlas.open(path) as unchanged, atlas.open(planted) as before:
        query = "select * from categories order by all"
        assert unchanged.rows(query) == before.rows(query)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "bytes.tsv").write_bytes(b"\xff\xfe\x00pets")
    with pytest.raises(BadInput, match="not UTF-8"):
        read_lists(tmp_path / "bytes.tsv")
    with pytest.raises(BadInput, match="No such file"):
        read_lists(tmp_path / "missing.tsv")


# -- the command ---------------------------------------------------------------------------------


def listed(path: Path, *options: object) -> dict[str, dict[str, object]]:
    rows = json.loads(succeed("categories", path, *options, "-f", "json"))
    return {row["category"]: row for row in rows}


def test_the_command_lists_categories_and_their_features(planted: Path, store: Atlas) -> None:
    found = listed(planted)
    assert list(found)[-len(PLANTED) :] == list(PLANTED)
    assert found["toddlers"]["words"] == 2
    assert found["toddlers"]["source"] == "planted.json"
    per_model = {name: [sae for sae in SAES if sae.startswith(name)] for name in ("toy-a", "toy-c")}
    for model, saes in per_model.items():
        expected = sum(len(members(store.cursor(), SAES.index(sae))["pets"]) for sae in saes)
        assert found["pets"][model] == expected
    within = listed(planted, "--within", "toy-c")
    assert set(within["pets"]) == {"category", "words", "source", "toy-c"}
    assert found["pets"]["toy-c"] == within["pets"]["toy-c"]
    assert listed(planted, "--least", 5)["pets"]["toy-a"] < found["pets"]["toy-a"]


def test_the_command_shows_a_categorys_features(planted: Path, store: Atlas) -> None:
    rows = json.loads(succeed("categories", planted, "pets", "-n", 3, "-f", "json"))
    assert [row["feature"] for row in rows] == [
        name for (name,) in store.rows("select feature from category_features('pets') limit 3")
    ]
    assert "nearest are pets" in told(invoke("categories", planted, "petz"))


def test_categories_are_added_extended_and_removed(planted: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.atlas"
    shutil.copyfile(planted, path)
    mine = tmp_path / "mine.tsv"
    mine.write_text("hues\tRed\tred\tblue green\n\nmoods\thappy\t\n")
    result = invoke("categories", path, "--add", mine)
    assert result.exit_code == 0
    assert "3 words added to 2 categories, 1 of them phrases; 1 left out" in result.stderr
    mine.write_text("hues\tred\tpink\n")
    assert "1 words added to 1 categories" in invoke("categories", path, "--add", mine).stderr
    assert listed(path)["hues"]["words"] == 3
    other = tmp_path / "other.csv"
    other.write_text("category,word\nhues,grey\n")
    assert "--prefix" in told(invoke("categories", path, "--add", other))
    succeed("categories", path, "--add", other, "--prefix", "other/")
    assert listed(path)["other/hues"]["words"] == 1
    assert "hues: removed, with 3 words" in invoke("categories", path, "--remove", "hues").stderr
    assert "hues" not in listed(path)


def test_a_list_takes_the_place_of_another_at_once(planted: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.atlas"
    shutil.copyfile(planted, path)
    (tmp_path / "pets.tsv").write_text("pets\tbird\n")
    succeed("categories", path, "--remove", "pets", "--add", tmp_path / "pets.tsv")
    assert listed(path)["pets"]["words"] == 1


def test_options_that_do_not_go_together(planted: Path) -> None:
    assert invoke("categories", planted, "pets", "--remove", "pets").exit_code == 2
    assert invoke("categories", planted, "--prefix", "a/").exit_code == 2


def test_an_atlas_without_categories_says_how_to_add_them(toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "old.atlas"
    shutil.copyfile(toy, path)
    with atlas.open(path, write=True) as old:
        old.execute("drop table categories")
    with atlas.open(path) as old, pytest.raises(AtlasError, match="bring it up to date"):
        members(old.cursor(), 0)


def test_empaths_file_is_read(shared_data: Path) -> None:
    lists = read_lists(shared_data / "words" / "empath" / "categories.tsv")
    assert len(lists) == 194
    assert "salary" in lists["money"]


def test_a_category_cannot_be_called_all(planted: Path, tmp_path: Path) -> None:
    path, file = tmp_path / "mine.atlas", tmp_path / "mine.tsv"
    shutil.copyfile(planted, path)
    file.write_text("all\teverything\n", "utf-8")
    assert told(invoke("categories", path, "--add", file)).startswith(
        "A category of mine.tsv is called 'all', which stands for all features"
    )
