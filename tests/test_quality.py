"""Fidelity, losses and decoder geometry against plain NumPy, and what is known of some SAEs."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.ingest.measuring import quality
from atlas.ingest.measuring.encode import encode_reference
from atlas.ingest.measuring.geometry import NEAR, decoder_metrics, max_cosines
from atlas.ingest.measuring.quality import (
    add_sums,
    cross_entropies,
    fidelity,
    reconstruction_metrics,
    reconstruction_sums,
)
from atlas.ingest.models import language_model as models
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint, Placed, Sites
from atlas.ingest.text import reference as references
from atlas.ingest.text.contexts import batches, stream_contexts
from atlas.ingest.text.corpus import Document
from atlas.ingest.text.tokens import TokenStream
from atlas.sae import SaeWeights
from tests.measured import make_sae
from tests.tiny import make_model, make_text

CONTEXT = 16
D = 16
RESID, MLP, EARLY = HookPoint(0, "resid_post"), HookPoint(1, "mlp_out"), HookPoint(1, "resid_pre")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> LanguageModel:
    torch.set_num_threads(1)
    return LanguageModel.load(str(make_model(tmp_path_factory.mktemp("model"))), device="cpu")


@pytest.fixture(scope="module")
def stream(model) -> TokenStream:
    texts = [make_text(n, seed) for seed, n in enumerate((40, 3, 90, 17, 60, 1, 33, 120))]
    documents = [Document(f"#{i}", text) for i, text in enumerate(texts)]
    return references.stream(references.build("tiny", "tiny", documents), model.tokenizer)


def perfect_sae(d: int) -> SaeWeights:
    """A latent for each direction's positive and negative part: ŷ = x."""
    both = torch.cat([torch.eye(d), -torch.eye(d)])
    return replace(
        make_sae(d),
        activation="relu",
        k=None,
        W_enc=both.T.contiguous(),
        b_enc=torch.zeros(2 * d),
        W_dec=both,
        input_scale=1.0,
        output_scale=1.0,
    )


def silent_sae(d: int) -> SaeWeights:
    """ŷ = 0, whatever x is."""
    sae = perfect_sae(d)
    return replace(sae, W_dec=torch.zeros_like(sae.W_dec))


def dictionaries() -> dict[str, Placed]:
    wide = make_sae(2 * D, seed=3)
    return {
        "0-resid_post": (Sites.at(RESID), make_sae(D)),
        "1-mlp_out": (Sites.at(MLP), make_sae(D, seed=1)),
        "transcoder": (Sites((EARLY,), (MLP,)), make_sae(D, seed=2)),
        "crosscoder": (Sites((RESID, MLP), (RESID, MLP)), wide),
    }


def plain_fidelity(y: np.ndarray, y_hat: np.ndarray) -> dict[str, float]:
    error, centred = y - y_hat, y - y.mean(axis=0)
    norm, norm_hat = np.linalg.norm(y, axis=1), np.linalg.norm(y_hat, axis=1)
    dot = (y * y_hat).sum(axis=1)
    fvu = (error**2).sum() / (centred**2).sum()
    return {
        "mse": (error**2).mean(),
        "cosine": (dot / norm / norm_hat).mean(),
        "fvu": fvu,
        "explained_variance": 1 - fvu,
        "explained_variance_centred": 1 - error.var(axis=0).sum() / y.var(axis=0).sum(),
        "l2_ratio": (norm_hat / norm).mean(),
    } | (
        {"relative_reconstruction_bias": (norm_hat**2).mean() / dot.mean()} if dot.sum() > 0 else {}
    )


@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 200),
    st.sampled_from([0.0, 1.0, 1000.0]),
    st.lists(st.integers(0, 200), max_size=3),
)
@settings(max_examples=30, deadline=None)
def test_fidelity_is_its_definition_however_batches_are_cut(seed, n, offset, cuts):
    rng = np.random.default_rng(seed)
    y = (rng.standard_normal((n, 5)) * (1, 2, 3, 4, 5) + offset).astype(np.float32)
    y_hat = (y + 0.3 * rng.standard_normal((n, 5)) + 0.1).astype(np.float32)
    edges = [0, *sorted(min(cut, n) for cut in cuts), n]
    sums = [
        reconstruction_sums(torch.from_numpy(y[a:b]), torch.from_numpy(y_hat[a:b]))
        for a, b in pairwise(edges)
        if b > a
    ]
    found = fidelity(add_sums(sums))
    per_token = found.pop("explained_variance_per_token", None)
    assert found == pytest.approx(
        plain_fidelity(y.astype(np.float64), y_hat.astype(np.float64)), rel=1e-3, abs=1e-4
    )
    longest = max(b - a for a, b in pairwise(edges))
    assert (per_token is not None) == (longest >= quality.LEAST_TOKENS)


def test_explained_variance_per_token_takes_each_batchs_own_mean():
    rng = np.random.default_rng(0)
    pieces = []
    for n in (40, 100, 5):
        y = rng.standard_normal((n, 4)).astype(np.float32) + n
        pieces.append((y, y + rng.standard_normal((n, 4)).astype(np.float32) / 2))
    sums = add_sums([reconstruction_sums(*map(torch.from_numpy, piece)) for piece in pieces])
    shares = [
        1 - ((y - y_hat) ** 2).sum(axis=1) / ((y - y.mean(axis=0)) ** 2).sum(axis=1)
        for y, y_hat in pieces[:2]  # the last is too short
    ]
    assert fidelity(sums)["explained_variance_per_token"] == pytest.approx(
        np.concatenate(shares).mean(), rel=1e-4
    )


def test_a_mean_that_dwarfs_the_variance_does_not_swallow_it():
    rng = np.random.default_rng(0)
    y = (rng.standard_normal((3000, 4)) + 3e4).astype(np.float32)
    halves = [y[:100], y[100:]]
    sums = add_sums([reconstruction_sums(*[torch.from_numpy(one)] * 2) for one in halves])
    error = torch.full((3000, 4), 0.5)
    worse = reconstruction_sums(torch.from_numpy(y), torch.from_numpy(y) - error)
    assert fidelity(sums)["explained_variance"] == 1
    expected = 1 - 0.25 * y.size / ((y - y.mean(axis=0, dtype="f8")) ** 2).sum()
    assert fidelity(worse)["explained_variance"] == pytest.approx(expected, rel=1e-2)
    assert fidelity(worse)["explained_variance_centred"] == pytest.approx(1, abs=1e-3)


def test_what_is_undefined_is_absent():
    same = torch.ones(50, 3)
    assert set(fidelity(reconstruction_sums(same, same))) == {
        "mse", "cosine", "l2_ratio", "relative_reconstruction_bias",
    }  # fmt: skip
    zero = torch.zeros(50, 3)
    assert set(fidelity(reconstruction_sums(zero, same))) == {"mse", "cosine"}


def test_sparsity_and_fidelity_of_a_reference_pass(model, stream, tmp_path):
    saes = dictionaries()
    parts = encode_reference(model, saes, stream, CONTEXT, tmp_path, chunk_tokens=100)
    for key, (sites, sae) in saes.items():
        rows = [
            model.run(batch, list(sites.points))
            for batch in batches(stream_contexts(stream, CONTEXT, model.bos_id), 64, model.pad_id)
        ]
        found = {
            p: torch.cat(c) for p, c in zip(sites.points, zip(*rows, strict=True), strict=True)
        }
        x, y = sites.gather(found)
        code = sae.encode(x)
        y_hat = sae.decode(code, x)
        metrics = reconstruction_metrics(parts[key])
        del metrics["explained_variance_per_token"]
        acts = code.dense(sae.d_sae) > 0
        density = acts.double().mean(0)
        assert metrics == pytest.approx(
            {
                "l0": float(acts.sum(1).double().mean()),
                "dead_share": float((density == 0).double().mean()),
                "dense_share": float((density > 0.1).double().mean()),
                "tokens": len(x),
                **plain_fidelity(y.double().numpy(), y_hat.double().numpy()),
            },
            rel=1e-3,
        ), key


def log_probs(model: LanguageModel, batch, splice: dict[HookPoint, torch.Tensor]) -> np.ndarray:
    """Those of the tokens behind kept positions, by hooks of this test's own; `splice` at them."""
    keep = torch.from_numpy(batch.keep)
    with ExitStack() as stack, torch.no_grad():
        for point, instead in splice.items():
            layer = model.model.model.layers[point.layer]
            module = {"resid_post": layer, "mlp_out": layer.mlp}[point.hook]

            def put(module, args, output, instead=instead):
                first = output if isinstance(output, torch.Tensor) else output[0]
                first[keep] = instead
                return output

            stack.callback(module.register_forward_hook(put).remove)
        logits = model.model(
            input_ids=torch.from_numpy(batch.input_ids),
            attention_mask=torch.from_numpy(batch.attention_mask).long(),
        ).logits
    logits = logits[:, :-1][keep[:, 1:]].double().numpy()
    top = logits.max(axis=1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))


def test_losses_and_divergence_are_their_definitions(model, stream, tmp_path, monkeypatch):
    # Two or three contexts at a time: parts of a batch add up.
    monkeypatch.setattr(models, "_LOGITS_AT_ONCE", 3 * 17 * model._n_embeddings)
    saes = dictionaries()
    found = cross_entropies(model, saes, stream, CONTEXT, tmp_path)
    (batch,) = batches(stream_contexts(stream, CONTEXT, model.bos_id), 10**6, model.pad_id)
    targets = batch.input_ids[:, 1:][batch.keep[:, 1:]]
    rows = np.arange(len(targets))
    points = [RESID, MLP, EARLY]
    clean = log_probs(model, batch, {})
    activations = dict(zip(points, model.run(batch, points), strict=True))
    ce = -clean[rows, targets].mean()
    for key, (sites, sae) in saes.items():
        x, _ = sites.gather(activations)
        y_hat = sae.decode(sae.encode(x), x).split(D, dim=1)
        zero, spliced, kl = [], [], []
        for point, instead in zip(sites.outputs, y_hat, strict=True):
            zeros = log_probs(model, batch, {point: torch.zeros_like(instead)})
            zero.append(-zeros[rows, targets].mean())
            got = log_probs(model, batch, {point: instead})
            spliced.append(-got[rows, targets].mean())
            kl.append((np.exp(clean) * (clean - got)).sum(axis=1).mean())
        expected = {
            "ce": ce, "ce_spliced": np.mean(spliced), "ce_zero": np.mean(zero), "kl": np.mean(kl),
            "ce_tokens": len(targets),
        }  # fmt: skip
        metrics = dict(found[key])
        if np.mean(zero) > ce:
            harm = np.mean(zero) - ce
            recovered = (np.mean(zero) - np.mean(spliced)) / harm
            assert metrics.pop("ce_recovered") == pytest.approx(recovered, abs=2e-5 / harm)
        assert metrics == pytest.approx(expected, rel=1e-4, abs=1e-5), key
        assert metrics["kl"] > 0


def test_perfect_and_silent_saes(model, stream, tmp_path):
    saes = {"perfect": (Sites.at(RESID), perfect_sae(D)), "silent": (Sites.at(MLP), silent_sae(D))}
    parts = encode_reference(model, saes, stream, CONTEXT, tmp_path / "parts")
    found = cross_entropies(model, saes, stream, CONTEXT, tmp_path / "losses")
    metrics = reconstruction_metrics(parts["perfect"])
    for name in ("explained_variance", "cosine", "l2_ratio", "relative_reconstruction_bias"):
        assert metrics[name] == pytest.approx(1), name
    assert metrics["fvu"] == pytest.approx(0, abs=1e-9)
    assert found["perfect"]["ce_spliced"] == pytest.approx(found["perfect"]["ce"], abs=1e-6)
    assert found["perfect"]["kl"] == pytest.approx(0, abs=1e-6)
    assert found["silent"]["ce_spliced"] == found["silent"]["ce_zero"]
    metrics = reconstruction_metrics(parts["silent"])
    assert metrics["l2_ratio"] == metrics["cosine"] == 0
    assert "relative_reconstruction_bias" not in metrics
    for one in found.values():
        if "ce_recovered" in one:
            harm = one["ce_zero"] - one["ce"]
            assert one["ce_recovered"] == (one["ce_zero"] - one["ce_spliced"]) / harm


def test_losses_on_part_of_the_corpus(model, stream, tmp_path):
    some = cross_entropies(model, dictionaries(), stream, CONTEXT, tmp_path, max_tokens=100)
    assert 50 < some["transcoder"]["ce_tokens"] <= 150
    whole = cross_entropies(model, dictionaries(), stream, CONTEXT, tmp_path / "all")
    assert whole["transcoder"]["ce_tokens"] == len(stream)


def test_a_killed_run_measures_only_what_is_left(model, stream, tmp_path, monkeypatch):
    arguments = (model, dictionaries(), stream, CONTEXT, tmp_path)
    whole = cross_entropies(*arguments, batch_tokens=64)
    paths = sorted(tmp_path.glob("losses-*.json"))
    assert len(paths) > 3
    paths[1].unlink()
    paths[1].with_suffix(".tmp").write_text("half of it")
    measured = []
    measure = quality.loss_sums
    monkeypatch.setattr(quality, "loss_sums", lambda *a: measured.append(1) or measure(*a))
    assert cross_entropies(*arguments, batch_tokens=64) == whole
    assert len(measured) == 1
    assert json.loads(paths[1].read_text())
    monkeypatch.setattr(quality, "loss_sums", lambda *_: 1 / 0)
    assert cross_entropies(*arguments, batch_tokens=64) == whole


def test_models_that_predict_no_next_token_have_no_losses(model, stream, tmp_path, monkeypatch):
    monkeypatch.setattr(model, "is_causal", False)
    saes = dictionaries()
    assert cross_entropies(model, saes, stream, CONTEXT, tmp_path) == {key: {} for key in saes}


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 17))
@settings(max_examples=30, deadline=None)
def test_max_cosines_are_numpys_for_every_block_size(seed, d_sae, rows):
    rng = np.random.default_rng(seed)
    W_dec = (rng.standard_normal((d_sae, 6)) * rng.exponential(1, (d_sae, 1))).astype(np.float32)
    W_dec[0] = 0
    found = max_cosines(torch.from_numpy(W_dec), rows)
    unit = W_dec[1:].astype(np.float64) / np.linalg.norm(W_dec[1:], axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    assert np.isnan(found[0])
    if d_sae > 2:
        np.testing.assert_allclose(found[1:], cosine.max(axis=1), atol=1e-6)
        metrics = decoder_metrics(found)
        assert metrics["decoder_max_cosine"] == pytest.approx(cosine.max(axis=1).mean(), abs=1e-6)
        assert metrics["decoder_near_share"] == (found[1:] > NEAR).mean()
    else:
        assert decoder_metrics(found) == {}


def test_a_copy_is_the_nearest_there_can_be():
    W_dec = torch.eye(5)[[0, 1, 2, 3, 1]]
    assert max_cosines(3 * W_dec).tolist() == [0, 1, 0, 0, 1]
    assert decoder_metrics(max_cosines(W_dec))["decoder_near_share"] == 0.4
