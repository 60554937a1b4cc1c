"""A sentence of the reader's: the stored SAEs say of it what they said of the corpus."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from layers import page

import atlas
from atlas.ingest.plan import IngestOptions
from atlas.ingest.run import ingest
from atlas.lineage.linking import LinkOptions, link
from atlas.web.sentence import _texts
from tests.commandline import environment


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentence")
    tiny.make_model(folder / "one")
    options = IngestOptions(
        model=str(folder / "one"),
        corpus=str(tiny.make_corpus(folder)),
        width="32",
        k="4",
        train_tokens="6k",
        reference_tokens="3k",
        context=32,
        device="cpu",
    )
    ingest(folder / "a.atlas", options)
    link(folder / "a.atlas", options=LinkOptions(min_joint=1))
    return folder


@pytest.fixture(scope="module")
def client(place):
    with page(place / "a.atlas") as opened:
        yield opened


def ask(client, text, **more):
    return client.post("/api/sentence", json={"model": "one", "text": text, **more})


def test_a_text_of_the_corpus_gives_what_is_stored(client, place):
    with atlas.open(place / "a.atlas") as opened:
        # The first context of a document, which the model read from its beginning.
        end = opened.row("select end_char from tokens where document_id = 3 and position = 31")[0]
        text = opened.row("select text from documents where document_id = 3")[0][:end]
        stored = opened.rows(
            """
            select feature, position, q * scale
            from activations
            join tokens using (token)
            join feature_names using (feature_id)
            join saes on saes.name = feature_names.sae
            where document_id = 3 and position < 32
            """
        )
    found = ask(client, text).json()
    assert "".join(found["tokens"]) == text
    assert len(found["tokens"]) == 32
    given = {
        (one["feature"], position, value)
        for layer in found["layers"]
        for one in layer["features"]
        for position, value in one["activations"]
    }
    shown = {name for name, _, _ in given}
    assert len(shown) > 20
    assert given == {row for row in stored if row[0] in shown}


def test_the_strongest_for_themselves_come_first(client):
    for layer in ask(client, tiny.make_text(12, 3)).json()["layers"]:
        peaks = [
            max(value for _, value in one["activations"]) / one["max_activation"]
            for one in layer["features"]
            if one["max_activation"]
        ]
        assert peaks == sorted(peaks, reverse=True)
        assert len(layer["features"]) <= 30


def test_edges_are_those_stored_between_them(client, place):
    found = ask(client, tiny.make_text(12, 3), at_least=0.2).json()
    shown = [{one["feature"] for one in layer["features"]} for layer in found["layers"]]
    with atlas.open(place / "a.atlas") as opened:
        rows = opened.rows("select feature_a, feature_b, pearson from edges where pearson >= 0.2")
    expected = {row for row in rows if row[0] in shown[0] and row[1] in shown[1]}
    assert expected
    assert {(one["a"], one["b"], one["value"]) for one in found["edges"]} == expected


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"text": ""}, "text"),
        ({"text": "x" * 3000}, "2,000 at most"),
        ({"text": tiny.make_text(100)}, "give 1 to 32"),
        ({"model": "two"}, "no SAEs of a model 'two'"),
        ({"hook": "mlp_out"}, "mlp_out"),
        ({"measure": "luck"}, "measure is one of"),
    ],
)
def test_what_cannot_be_run_is_told(client, asked, said):
    response = client.post("/api/sentence", json={"model": "one", "text": "Hello.", **asked})
    assert response.status_code in (400, 404)
    assert said in response.json()["error"]


def test_a_model_that_is_gone_or_another_is_told(place, tmp_path):
    for name in ("a.atlas", "corpus.txt"):
        shutil.copy(place / name, tmp_path)
    with atlas.open(tmp_path / "a.atlas", write=True) as opened, opened.transaction():
        opened.execute("update models set source = ?", [str(tmp_path / "one")])
    with page(tmp_path / "a.atlas") as client:
        assert "one" not in client.get("/api/atlas").json()["sentence"]
        assert "there is no folder" in ask(client, "Hello.").json()["error"]
        tiny.make_model(tmp_path / "one", seed=5)
        assert "has other weights by now" in ask(client, "Hello.").json()["error"]
        shutil.rmtree(tmp_path / "one")
        shutil.copytree(place / "one", tmp_path / "one")
        assert ask(client, "Hello.").status_code == 200


class Encoded:
    def __init__(self, *spans):
        import numpy as np

        self.start, self.end = np.array(spans, int).reshape(-1, 2).T
        self.ids = self.start


@pytest.mark.parametrize(
    ("text", "spans", "tokens"),
    [
        ("Once", [(0, 1), (0, 1), (1, 4)], ["", "O", "nce"]),
        ("a🎈b", [(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)], ["a", "", "", "🎈", "b"]),
        ("two words ", [(0, 3), (4, 9)], ["two", " words "]),
        (" x", [(1, 2)], [" x"]),
        ("ab", [(0, 1), (1, 1), (1, 2)], ["a", "", "b"]),
        ("", [], []),
    ],
)
def test_tokens_together_are_the_text(text, spans, tokens):
    assert _texts(text, Encoded(*spans)) == tokens


def test_torch_stays_out_until_then(toy: Path):
    code = (
        "import sys; from layers import page\n"
        f"with page(__import__('pathlib').Path({str(toy)!r})) as client:\n"
        "    client.get('/api/atlas'); client.get('/api/feature', params={'name': '3'})\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(PYTHONPATH=f"{Path(__file__).parent}:."),
        capture_output=True, text=True, check=True, timeout=60, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.stdout == "[]\n"
