"""Crosscoders over several models: words meet, activations are theirs, and nothing is made up."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner
from contents import assert_same, contents
from hypothesis import given, settings
from hypothesis import strategies as st

import atlas
from atlas.checks import run_checks
from atlas.cli import main
from atlas.errors import BadInput
from atlas.ingest.measuring.quality import cross_entropies
from atlas.ingest.models.joint import Ensemble, JointStream, JointText, ReadText, word_windows
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint, Sites
from atlas.ingest.plan import IngestOptions
from atlas.ingest.run import ingest, prepare
from atlas.ingest.text import reference as references
from atlas.ingest.text.contexts import batches
from atlas.ingest.text.corpus import Document, open_corpus
from atlas.ingest.text.tokens import align
from atlas.ingest.text.words import word_spans
from atlas.ingest.training.state import Spec
from atlas.ingest.training.train import train_saes
from atlas.ingest.training.trainee import TrainConfig
from atlas.progress import Silent
from atlas.sae import SaeWeights
from atlas.stored import load_weights

# Words and tokens

TEXT = st.text(alphabet="ab .é漢", min_size=1, max_size=60)


@st.composite
def read_texts(draw) -> tuple[str, list[tuple[np.ndarray, np.ndarray]]]:
    """A text, and where the tokens of two or three tokenizers begin and end in it."""
    text = draw(TEXT)
    tokenized = []
    for _ in range(draw(st.integers(2, 3))):
        cuts = sorted(draw(st.sets(st.integers(1, len(text)), max_size=40)) | {len(text)})
        spans = list(itertools.pairwise([0, *cuts]))
        # Some characters are several tokens, as the bytes of an emoji are, and some are none.
        times = draw(st.lists(st.integers(0, 3), min_size=len(spans), max_size=len(spans)))
        spans = [span for span, n in zip(spans, times, strict=True) for _ in range(n)]
        start, end = np.array(spans, np.int32).reshape(-1, 2).T
        tokenized.append((start, end))
    return text, tokenized


@settings(deadline=None)
@given(read_texts(), st.integers(1, 12), st.integers(0, 100))
def test_counted_positions_are_the_same_words_in_every_model(read, context, first):
    text, tokenized = read
    word_start, word_end = word_spans(text)
    words = [align(start, end, word_start, word_end) for start, end in tokenized]
    readings = [ReadText(np.arange(len(word), dtype=np.int32), word, None, first) for word in words]
    counted: list[int] = []
    done = [0] * len(words)
    for window in word_windows(readings, len(word_start), context):
        of_models = (window, *window.beside)
        assert len(of_models) == len(words)
        found = []
        for i, (one, word) in enumerate(zip(of_models, words, strict=True)):
            assert 1 <= len(one.ids) <= context
            assert one.ids.tolist() == list(range(one.ids[0], one.ids[0] + len(one.ids)))
            assert one.first == first + one.ids[0]
            assert one.ids[0] >= done[i]  # windows follow each other
            done[i] = one.ids[-1] + 1
            ends = one.ids[one.counted]
            # Each is the last token of its word.
            assert all(token == np.flatnonzero(word == word[token])[-1] for token in ends)
            found.append(word[ends].tolist())
        assert all(one == found[0] for one in found)
        assert found[0]
        counted += found[0]
    assert counted == sorted(set(counted))
    sizes = np.array([np.bincount(word, minlength=len(word_start)) for word in words])
    expected = np.flatnonzero((sizes > 0).all(axis=0) & (sizes <= context).all(axis=0))
    assert counted == expected.tolist()


def test_a_token_that_goes_back_ends_no_word():
    word = np.array([0, 1, 0, 1, 2])
    (window,) = word_windows([ReadText(np.arange(5), word, None)] * 2, 3, 9)
    assert np.flatnonzero(window.counted).tolist() == [0, 3, 4]
    assert np.flatnonzero(window.beside[0].counted).tolist() == [0, 3, 4]


# Two models with different tokenizers, and an atlas of both

SMALL = {
    "width": "32",
    "k": "4",
    "train_tokens": "4k",
    "reference_tokens": "2k",
    "context": 24,
    "device": "cpu",
}
JOINT = {"layers": "0-1", "arch": "crosscoder", "partners": ("two@0,2",)}
NAME = "one/0-resid_post-crosscoder-0to1-with-two=0+2"
POINTS = (
    HookPoint(0, "resid_post"),
    HookPoint(1, "resid_post"),
    HookPoint(0, "resid_post", "two"),
    HookPoint(2, "resid_post", "two"),
)


def options(place: Path, model: str = "one", **changes: object) -> IngestOptions:
    return IngestOptions(
        model=str(place / model),
        corpus=str(place / "corpus.txt"),
        **SMALL | changes,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A folder with three models, the third with the first one's tokenizer; an atlas of them."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("joint")
    tiny.make_corpus(folder, n_documents=60, n_words=60)
    tiny.make_model(folder / "one")
    tiny.make_model(folder / "two", seed=1, n_layers=3, d_model=24, n_vocab=0)
    tiny.make_model(folder / "three", seed=2, n_layers=1)
    for model in ("two", "three"):
        ingest(folder / "base.atlas", options(folder, model, layers="0"))
    return folder


def copied(base: Path, path: Path) -> Path:
    shutil.copy(base / "base.atlas", path)
    return path


@pytest.fixture(scope="module")
def place(base) -> Path:
    """The folder, with the joint crosscoder in its atlas."""
    ingest(copied(base, base / "a.atlas"), options(base, **JOINT))
    return base


@pytest.fixture(scope="module")
def models(base) -> Ensemble:
    one, two = (LanguageModel.load(base / name, device="cpu") for name in ("one", "two"))
    return Ensemble(one, [two])


def test_every_check_holds(place):
    with atlas.open(place / "a.atlas") as a:
        assert [result.name for result in run_checks(a) if not result.passed] == []


def test_hook_points_and_what_was_measured(place):
    with atlas.open(place / "a.atlas") as a:
        sites = a.rows(
            "select role, place, models.name, layer, hook, first_column, width"
            " from sae_sites join models using (model_id)"
            " where sae_id = (select sae_id(?)) order by role, place",
            [NAME],
        )
        metrics = dict(
            a.rows("select metric, value from sae_metrics where sae_id = sae_id(?)", [NAME])
        )
        n_words, n_tokens = a.row(
            "select n_words, tokenizers.n_tokens from corpora, tokenizers"
            " join models using (tokenizer_id) where models.name = 'one'"
        )
    expected = [
        (0, "one", 0, "resid_post", 0, 16),
        (1, "one", 1, "resid_post", 16, 16),
        (2, "two", 0, "resid_post", 32, 24),
        (3, "two", 2, "resid_post", 56, 24),
    ]
    assert sites == [(role, *one) for role in ("input", "output") for one in expected]
    assert 0.9 * n_words < metrics["tokens"] <= n_words < n_tokens
    assert {"l0", "explained_variance", "ce_spliced", "kl"} <= metrics.keys()


def greedy_windows(
    n_words: int, tokens: list[dict[int, list[int]]], context: int
) -> list[list[int]]:
    """Words that are read together: as many as fit every model's context."""
    windows: list[list[int]] = [[]]
    used = [0] * len(tokens)
    for word in range(n_words):
        sizes = [len(by_word.get(word, [])) for by_word in tokens]
        if any(before + size > context for before, size in zip(used, sizes, strict=True)):
            windows.append([])
            used = [0] * len(tokens)
        windows[-1].append(word)
        used = [before + size for before, size in zip(used, sizes, strict=True)]
    return windows


def leaving(model: LanguageModel, ids: list[int], layers: list[int]) -> list[torch.Tensor]:
    """What leaves these layers, (n, d_model) each."""
    states: list[torch.Tensor] = []
    hooks = [
        model.model.model.layers[layer].register_forward_hook(
            lambda _, __, out: states.append(out[0])
        )
        for layer in layers
    ]
    with torch.no_grad():
        model.model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return states


def test_stored_activations_are_those_of_transformers_at_the_ends_of_words(place, models):
    """Every step by hand: tokens, words, windows, hidden states, the stored dictionary."""
    with atlas.open(place / "a.atlas") as a:
        sae = load_weights(a, NAME)
        (scale,) = a.row("select scale from saes where name = ?", [NAME])
        rows = a.rows(
            "select token - first_token, index, q * scale from activations"
            " join features using (feature_id) join saes using (sae_id)"
            " join models using (model_id) join tokenizers using (tokenizer_id)"
            " where saes.name = ?",
            [NAME],
        )
        documents = [text for (text,) in a.rows("select text from documents order by document_id")]
    stored = {(token, index): value for token, index, value in rows}
    found: dict[tuple[int, int], float] = {}
    n_before = 0
    for text in documents:
        starts, ends = (span.tolist() for span in word_spans(text))
        tokenized, by_word = [], []
        for model in models.members:
            encoded = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            tokens: dict[int, list[int]] = {}
            for number, (_, end) in enumerate(encoded["offset_mapping"]):
                word = next(w for w in range(len(starts)) if starts[w] < end <= ends[w])
                tokens.setdefault(word, []).append(number)
            tokenized.append(encoded["input_ids"])
            by_word.append(tokens)
        for words in greedy_windows(len(starts), by_word, SMALL["context"]):
            kept = [word for word in words if all(word in tokens for tokens in by_word)]
            x = []
            for model, ids, tokens, layers in zip(
                models.members, tokenized, by_word, ([0, 1], [0, 2]), strict=True
            ):
                read = [number for word in words for number in tokens.get(word, [])]
                at = [read.index(tokens[word][-1]) + 1 for word in kept]  # BOS comes first
                states = leaving(model, [0, *(ids[number] for number in read)], layers)
                x += [state[at] for state in states]
            code = sae.encode(torch.cat(x, 1)).dense(sae.d_sae)
            for row, word in enumerate(kept):
                token = n_before + by_word[0][word][-1]
                found |= {(token, int(i)): float(code[row, i]) for i in code[row].nonzero()}
        n_before += len(tokenized[0])
    assert len(stored) > 1000
    differences = [
        abs(stored.get(key, 0) - found.get(key, 0)) for key in stored.keys() | found.keys()
    ]
    # Rounding to the scale, and float32 sums in other batches.
    assert max(differences) <= 0.51 * scale + 1e-4


def test_examples_keep_to_the_windows_that_were_read(place, models):
    with atlas.open(place / "a.atlas") as a:
        reference = references.of_atlas(a)
        rows = a.rows(
            "select first_token - first, token - first, last_token - first"
            " from examples, (select first_token as first from tokenizers join models"
            " using (tokenizer_id) where models.name = 'one')"
            " where feature_id in (select feature_id from features where sae_id = sae_id(?))",
            [NAME],
        )
        assert a.rows("select count(*) > 0 from contexts(?)", [f"{NAME}/0"])
    streams = tuple(references.stream(reference, model.tokenizer) for model in models.members)
    text = JointText(models, streams, reference.n_words)
    spans = [(one.first, one.first + len(one.ids) - 1) for one in text.windows(SMALL["context"])]
    assert len(rows) > 100
    for first, peak, last in rows:
        (span,) = [span for span in spans if span[0] <= peak <= span[1]]
        assert span[0] <= first <= peak <= last <= span[1]


def test_each_hook_point_is_measured_by_itself(place, models):
    with atlas.open(place / "a.atlas") as a:
        sae, reference = load_weights(a, NAME), references.of_atlas(a)
        stored = a.rows(
            "select spread, explained_variance from sae_sites"
            " where sae_id = sae_id(?) and role = 'output' order by place",
            [NAME],
        )
        norms = a.rows("select norm, share from decoder_norms(?)", [f"{NAME}/3"])
        (reads,) = a.row("select reads from sae_cards where sae = ?", [NAME])
    assert reads == ["0-resid_post", "1-resid_post", "two/0-resid_post", "two/2-resid_post"]
    streams = tuple(references.stream(reference, model.tokenizer) for model in models.members)
    windows = JointText(models, streams, reference.n_words).windows(SMALL["context"])
    read = [models.run(batch, POINTS) for batch in batches(windows, 4000, models.pad_id)]
    x = torch.cat([torch.cat(one, 1) for one in read])
    x_hat = sae.decode(sae.encode(x), x)
    expected = []
    parts = (one.double().split([16, 16, 24, 24], 1) for one in (x, x_hat))
    for y, y_hat in zip(*parts, strict=True):
        variance = (y - y.mean(0)).square().sum()
        expected += [(variance / len(y)).sqrt(), 1 - (y - y_hat).square().sum() / variance]
    np.testing.assert_allclose(np.ravel(stored), expected, rtol=1e-4)
    relative = [norm / spread for (norm, _), (spread, _) in zip(norms, stored, strict=True)]
    np.testing.assert_allclose(
        [share for _, share in norms], relative / np.sum(relative), rtol=1e-6
    )


def test_given_again_nothing_happens(place):
    assert not ingest(place / "a.atlas", options(place, **JOINT)).added


def test_models_with_one_tokenizer_meet_on_every_token(base, tmp_path):
    path = copied(base, tmp_path / "a.atlas")
    joint = {"layers": "1", "arch": "crosscoder", "partners": ("three@0",)}
    (name,) = ingest(path, options(base, **joint)).saes
    assert name == "one/1-resid_post-crosscoder-with-three=0"
    with atlas.open(path) as a:
        assert [result.name for result in run_checks(a) if not result.passed] == []
        assert a.row(
            "select value = n_tokens from sae_metrics, tokenizers join models using (tokenizer_id)"
            " where metric = 'tokens' and sae_id = sae_id(?) and models.name = 'one'",
            [name],
        ) == (True,)


# Losses


def dictionary(widths: list[int], *, perfect: bool) -> SaeWeights:
    """One that gives back what it reads, or always zeros."""
    d = sum(widths)
    both = torch.cat([torch.eye(d), -torch.eye(d)])
    zeros = torch.zeros(d)
    return SaeWeights(
        architecture="crosscoder",
        activation="relu",
        k=None,
        W_enc=both.T.contiguous(),
        b_enc=torch.zeros(2 * d),
        W_dec=both * perfect,
        b_dec=zeros,
        pre_bias=zeros,
        input_scale=1.0,
        output_scale=1.0,
    )


@pytest.fixture(scope="module")
def text(base, models) -> JointText:
    documents = [Document(f"#{i}", tiny.make_text(40, i)) for i in range(5)]
    reference = references.build("text", "text", documents)
    streams = tuple(references.stream(reference, model.tokenizer) for model in models.members)
    return JointText(models, streams, reference.n_words)


def test_losses_of_perfect_and_empty_dictionaries(models, text, tmp_path):
    sites = Sites(POINTS[1:3], POINTS[1:3])
    saes = {
        name: (sites, dictionary([16, 24], perfect=name == "perfect"))
        for name in ("perfect", "empty")
    }
    found = cross_entropies(models, saes, text, 24, tmp_path)
    assert found["perfect"]["ce_spliced"] == pytest.approx(found["perfect"]["ce"], abs=1e-6)
    assert found["perfect"]["kl"] == pytest.approx(0, abs=1e-6)
    assert found["empty"]["ce_spliced"] == pytest.approx(found["empty"]["ce_zero"], abs=1e-6)
    # The mean of the models' own losses, each a mean over all of its predictions.
    windows = list(text.windows(24))
    clean, zero = [], []
    for model, of_model, point in zip(
        models.members, zip(*((one, *one.beside) for one in windows), strict=True), POINTS[1:3],
        strict=True,
    ):  # fmt: skip
        losses = {"clean": 0.0, "zero": 0.0}
        n = 0
        for one in of_model:
            ids = torch.tensor([[0, *one.ids.tolist()]])
            at = torch.from_numpy(np.flatnonzero(one.counted)) + 1

            def put(_, __, out, at=at):
                return out.index_fill(1, at, 0.0)

            for kind in losses:
                layer = model.model.model.layers[point.layer]
                hook = layer.register_forward_hook(put) if kind == "zero" else None
                with torch.no_grad():
                    logits = model.model(ids).logits[0, :-1]
                losses[kind] += float(
                    torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
                )
                if hook:
                    hook.remove()
            n += len(one.ids)
        clean.append(losses["clean"] / n)
        zero.append(losses["zero"] / n)
    assert found["empty"]["ce"] == pytest.approx(np.mean(clean), abs=1e-5)
    assert found["empty"]["ce_zero"] == pytest.approx(np.mean(zero), abs=1e-5)


# Training, killed and gone on with

CONFIG = TrainConfig(
    d_sae=24, k=3, train_tokens=3_000, architecture="crosscoder", batch_tokens=128,
    block_tokens=700, forward_tokens=200,
)  # fmt: skip


class Killed(BaseException):
    pass


class Dying:
    """A progress that ends the work once a task of that name has come so far."""

    def __init__(self, name: str = "", kill_at: float = float("inf")) -> None:
        self.name, self.left = name, kill_at

    @contextmanager
    def task(self, name: str, total: float | None, unit: str) -> Iterator[Dying]:
        self.current = name
        yield self

    def advance(self, amount: float = 1) -> None:
        if self.current == self.name:
            self.left -= amount
            if self.left <= 0:
                raise Killed

    def note(self, text: str) -> None:
        pass

    def notice(self, sentence: str) -> None:
        pass


@pytest.mark.parametrize("kills", [[1500, 1600], [2900]])
def test_training_killed_and_resumed_ends_with_the_same_bits(base, models, tmp_path, kills):
    corpus = open_corpus(base / "corpus.txt")

    def train(folder: Path, progress) -> tuple[str, dict]:
        stream = JointStream(corpus, models, 24, skip_documents=3)
        spec = Spec("one", (Sites(POINTS, POINTS),), CONFIG)
        trained = train_saes(models, [spec], stream, folder, progress, checkpoint_seconds=0)
        return trained["one"].weights.sha256(), stream.state()

    whole = train(tmp_path / "whole", Silent())
    for kill_at in kills:
        with pytest.raises(Killed):
            train(tmp_path / "killed", Dying("training SAEs", kill_at))
    assert train(tmp_path / "killed", Silent()) == whole


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 40), st.integers(0, 3))
def test_a_stream_resumed_anywhere_goes_on_with_the_same_windows(models, taken, skip):
    documents = [Document(f"#{i}", tiny.make_text(12, i)) for i in range(6)]

    def read(stream, n):
        return [
            [(one.ids.tolist(), one.counted.tolist()) for one in (window, *window.beside)]
            for window in itertools.islice(stream, n)
        ]

    whole, resumed = (JointStream(documents, models, 9, skip_documents=skip) for _ in range(2))
    read(whole, taken)
    resumed.restore(json.loads(json.dumps(whole.state())))
    assert read(resumed, 12) == read(whole, 12)
    assert resumed.state() == whole.state()


@pytest.mark.parametrize(
    "kill",
    [("training SAEs", 1000), ("losses", 1), ("reference corpus", 1), ("describing features", 1)],
)
def test_an_ingest_killed_and_given_again_ends_with_the_same_atlas(place, tmp_path, kill):
    path = copied(place, tmp_path / "a.atlas")
    with pytest.raises(Killed):
        ingest(path, options(place, **JOINT), progress=Dying(*kill))
    assert ingest(path, options(place, **JOINT)).added
    assert_same(contents(path), contents(place / "a.atlas"))
    assert [file.name for file in tmp_path.iterdir()] == ["a.atlas"]


def test_batches_of_several_models_keep_the_same_words(models, text):
    read = list(batches(text.windows(24), 200, models.pad_id))
    assert sum(len(batch.token) for batch in read) > 100
    for batch in read:
        (beside,) = batch.beside
        assert len(batch.input_ids) == len(beside.input_ids)
        assert (batch.keep.sum(axis=1) == beside.keep.sum(axis=1)).all()
        words = [
            stream.word[one.token]
            for stream, one in zip(text.streams, (batch, beside), strict=True)
        ]
        assert words[0].tolist() == words[1].tolist()
        assert models.run(batch, POINTS)[3].shape == (len(batch.token), 24)


# What is refused


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"partners": ("nobody@0",)}, r"base.atlas has no model 'nobody', but three, two; ingest"),
        ({"partners": ("two@3",)}, r"--with two@3: '3' names layer 3, .* layers 0 to 2"),
        ({"partners": ("two",)}, "--with 'two' is no NAME@LAYERS"),
        ({"partners": ("two@",)}, "no list of layers"),
        ({"partners": ("one@1",)}, "one is the model itself; use --layers"),
        ({"partners": ("two@0", "two@1")}, "two comes twice"),
        ({"arch": "topk"}, "--with is for crosscoders, which --arch topk is not"),
        ({"sae": "somewhere"}, "--with is for crosscoders that are trained"),
        ({"context": 64}, "more than one can read"),
    ],
)
def test_what_cannot_be_is_told(base, changes, why):
    with pytest.raises(BadInput, match=why):
        prepare(base / "base.atlas", options(base, **JOINT | changes))


def test_a_new_atlas_has_no_partner(base, tmp_path):
    with pytest.raises(BadInput, match="no model 'two', but none at all; ingest it first"):
        prepare(tmp_path / "new.atlas", options(base, **JOINT))


def test_a_partner_that_moved_or_changed_is_told(base, tmp_path):
    path = tmp_path / "a.atlas"
    shutil.copytree(base / "two", tmp_path / "two")
    shutil.copy(base / "corpus.txt", tmp_path)
    shutil.copytree(base / "one", tmp_path / "one")
    ingest(path, options(tmp_path, "two", layers="0"))
    (tmp_path / "two").rename(tmp_path / "moved")
    with pytest.raises(BadInput, match=f"has this model from {tmp_path / 'two'}, where it cannot"):
        prepare(path, options(tmp_path, **JOINT))
    tiny.make_model(tmp_path / "two", seed=9, n_layers=3, d_model=24, n_vocab=0)
    with pytest.raises(BadInput, match="two has other weights by now than"):
        prepare(path, options(tmp_path, **JOINT))


def test_the_command_shows_what_it_would_read(base):
    result = CliRunner().invoke(
        main,
        ["ingest", str(base / "base.atlas"), str(base / "one"), "--arch", "crosscoder", "--layers",
         "1", "--with", "two@1-2", "--context", "24", "--dry-run"],
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "one/1-resid_post-crosscoder-with-two=1to2" in result.stdout
    assert "reads 1-resid_post + two/1-resid_post + two/2-resid_post" in result.stdout
    assert "two (llama, 3 layers" in result.stdout
