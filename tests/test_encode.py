"""The reference pass: parts that depend on no order, cut or interruption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.errors import BadInput
from atlas.ingest.measuring.encode import choose_scale, columns, encode_reference, quantise
from atlas.ingest.measuring.parts import Parts
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint, Placed, Sites
from atlas.ingest.text import reference as references
from atlas.ingest.text.contexts import batches, stream_contexts
from atlas.ingest.text.corpus import Document
from atlas.ingest.text.tokens import TokenStream
from atlas.sae import SaeWeights
from tests.measured import make_sae, random_q, write_parts
from tests.tiny import make_model, make_text

CONTEXT = 16
POINTS = (HookPoint(0, "resid_post"), HookPoint(1, "mlp_out"))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> LanguageModel:
    torch.set_num_threads(1)
    return LanguageModel.load(str(make_model(tmp_path_factory.mktemp("model"))), device="cpu")


@pytest.fixture(scope="module")
def stream(model) -> TokenStream:
    texts = [make_text(n, seed) for seed, n in enumerate((40, 3, 90, 17, 60, 1, 33, 120))]
    documents = [Document(f"#{i}", text) for i, text in enumerate(texts)]
    return references.stream(references.build("tiny", "tiny", documents), model.tokenizer)


def saes_for(model: LanguageModel) -> dict[HookPoint, SaeWeights]:
    return {point: make_sae(model.width(point), seed) for seed, point in enumerate(POINTS)}


def placed(saes: dict[HookPoint, SaeWeights]) -> dict[str, Placed]:
    return {str(point): (Sites.at(point), sae) for point, sae in saes.items()}


def dense(parts: Parts, n_tokens: int) -> np.ndarray:
    q = np.zeros((n_tokens, parts.d_sae), np.int64)
    for batch in parts.batches():
        q[batch["token"], batch["index"]] = batch["q"]
    return q


def activations(model: LanguageModel, stream: TokenStream, point: HookPoint) -> torch.Tensor:
    """x of every token of the stream, one context at a time."""
    rows = [
        model.run(batch, [point])[0]
        for context in stream_contexts(stream, CONTEXT, model.bos_id)
        for batch in batches([context], 1, model.pad_id)
    ]
    return torch.cat(rows)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def test_integers_of_every_token(model, stream, tmp_path):
    saes = saes_for(model)
    parts = encode_reference(
        model, placed(saes), stream, CONTEXT, tmp_path, chunk_tokens=100, batch_tokens=64
    )
    for point, sae in saes.items():
        code = sae.encode(activations(model, stream, point))
        exact = code.dense(sae.d_sae)
        q = dense(parts[str(point)], len(stream))
        assert np.log2(parts[str(point)].scale) % 1 == 0
        # Padding changes the last bits of a float, so an integer may differ by one.
        assert np.abs(q - np.rint(exact.numpy() / parts[str(point)].scale)).max() <= 1
        assert (q > 0).sum() > 0.9 * sae.k * len(stream)


def test_scale_is_chosen_once_for_all_chunks(model, stream, tmp_path):
    parts = encode_reference(
        model, placed(saes_for(model)), stream, CONTEXT, tmp_path, chunk_tokens=100
    )
    for point in POINTS:
        scales = {Parts(parts[str(point)].folder, n).scale for n in (1, 2, 3)}
        assert scales == {parts[str(point)].scale}


@pytest.mark.parametrize(
    "missing",
    [
        ["0-resid_post/part-00000"],
        ["1-mlp_out/part-00002"],
        ["0-resid_post/part-00001", "1-mlp_out/part-00001"],
    ],
)
def test_resumed_pass_writes_the_same_bytes(model, stream, tmp_path, missing):
    arguments = (model, placed(saes_for(model)), stream, CONTEXT, tmp_path)
    encode_reference(*arguments, chunk_tokens=100, batch_tokens=64)
    whole = files(tmp_path)
    for name in missing:
        (tmp_path / f"{name}.safetensors").unlink()
        (tmp_path / f"{name}.tmp").write_bytes(b"half of it")
    encode_reference(*arguments, chunk_tokens=100, batch_tokens=64)
    assert files(tmp_path) == whole


def test_finished_chunks_are_not_done_twice(model, stream, tmp_path, monkeypatch):
    arguments = (model, placed(saes_for(model)), stream, CONTEXT, tmp_path)
    first = encode_reference(*arguments)
    monkeypatch.setattr(LanguageModel, "run", lambda *_: 1 / 0)
    again = encode_reference(*arguments)
    assert [p.scale for p in again.values()] == [p.scale for p in first.values()]


def test_activations_that_are_no_numbers_are_refused(model, stream, tmp_path, monkeypatch):
    run = LanguageModel.run

    def overflowing(self, batch, points):
        found = run(self, batch, points)
        found[0][0] = torch.inf
        return found

    monkeypatch.setattr(LanguageModel, "run", overflowing)
    with pytest.raises(BadInput, match="0-resid_post meets activations that are not finite"):
        encode_reference(model, placed(saes_for(model)), stream, CONTEXT, tmp_path)


def test_damaged_part(tmp_path):
    q = random_q(np.random.default_rng(0), 50, 4)
    parts = write_parts(tmp_path, q, [20])
    path = parts.folder / "part-00001.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadInput, match=r"part-00001\.safetensors cannot be read"):
        Parts(tmp_path, 2)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 60),
    st.integers(1, 9),
    st.lists(st.integers(0, 60), max_size=4),
    st.integers(1, 50),
)
@settings(max_examples=30, deadline=None)
def test_order_cuts_and_blocks_change_no_entry(tmp_path_factory, seed, n, d_sae, cuts, entries):
    rng = np.random.default_rng(seed)
    q = random_q(rng, n, d_sae)
    token, index = np.nonzero(q)
    values = q[token, index].astype(np.int32)
    shuffled = rng.permutation(len(values))
    plain = columns(index, token + 1000, values, d_sae, 1000, n)
    mixed = columns(index[shuffled], token[shuffled] + 1000, values[shuffled], d_sae, 1000, n)
    for a, b in zip(plain, mixed, strict=True):
        assert a.dtype == b.dtype
        assert (a == b).all()
    assert (np.diff(plain[0]) == (q > 0).sum(axis=0)).all()

    folder = tmp_path_factory.mktemp("parts")
    parts = write_parts(folder, q, sorted(min(cut, n) for cut in cuts))
    assert (parts.n_active() == (q > 0).sum(axis=0)).all()
    assert parts.sums()["n"] == n
    blocks = list(parts.blocks(entries))
    assert [block.first for block in blocks] == np.cumsum(
        [0, *(block.n_features for block in blocks)]
    ).tolist()[:-1]
    assert all(block.n_features == 1 or len(block.q) <= entries for block in blocks)
    assert sum(block.n_features for block in blocks) == d_sae
    index, token = np.nonzero(q.T)
    assert np.concatenate([b.feature + b.first for b in blocks]).tolist() == index.tolist()
    assert np.concatenate([b.token for b in blocks]).tolist() == token.tolist()
    assert np.concatenate([b.q for b in blocks]).tolist() == q[token, index].tolist()


@given(st.integers(0, 2**32 - 1), st.floats(-30, 30))
@settings(max_examples=50, deadline=None)
def test_scale_gives_usual_activations_thirteen_bits(seed, exponent):
    rng = np.random.default_rng(seed)
    value = (rng.exponential(2.0**exponent, 1000) + 1e-12).astype(np.float32)
    scale = choose_scale(value)
    assert np.log2(scale) % 1 == 0
    q = quantise(value, scale, "m/0-resid_post")
    assert 2**12 <= np.sort(q)[int(0.99 * 999)] <= 2**13
    assert np.abs(q * scale - value).max() <= scale / 2


def test_scale_of_nothing():
    assert choose_scale(np.zeros(0, np.float32)) == 2.0**-13


def test_overflow_is_told():
    with pytest.raises(BadInput, match=r"m/0-resid_post has an activation of 1e\+10"):
        quantise(np.array([1.0, 1e10], np.float32), 2.0**-10, "m/0-resid_post")


def test_zeros_are_dropped():
    indptr, token, q = columns(
        np.array([0, 1, 0]), np.array([5, 5, 7]), np.array([3, 0, 4], np.int32), 2, 5, 3
    )
    assert (indptr.tolist(), token.tolist(), q.tolist()) == ([0, 2, 2], [5, 7], [3, 4])
