"""Next-token losses, with and without replaced activations, and the unembedding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import CAUSAL, D_MODEL, FAMILIES, build, save, save_tokenizer

from atlas.errors import BadInput
from atlas.ingest.models import language_model as models
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint
from atlas.ingest.text.contexts import Batch, batches, contexts

SOME = ["gpt2", "gpt_neox", "llama", "gemma2", "opt", "openai-gpt", "falcon", "olmo2"]


def load(name: str, tmp_path, **options) -> LanguageModel:
    return LanguageModel.load(save(name, tmp_path / name, **options), device="cpu")


def batch_of(model: LanguageModel, lengths=(9, 4, 6)) -> Batch:
    rng = np.random.default_rng(0)
    ids = [rng.integers(3, 20, n).astype(np.int32) for n in lengths]
    (batch,) = batches(contexts(ids, 16, model.bos_id), 10_000, model.pad_id)
    return batch


def zero(rows: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(rows)


@pytest.mark.parametrize("name", CAUSAL)
def test_loss_is_hugging_faces(tmp_path, name):
    model = load(name, tmp_path)
    batch = batch_of(model)
    total, count = model.loss(batch)
    assert count == 19  # every token: the first is predicted from BOS
    assert total.dtype == torch.float64
    with torch.no_grad():
        reference = model.model(
            input_ids=torch.from_numpy(batch.input_ids),
            attention_mask=torch.from_numpy(batch.attention_mask).long(),
            labels=torch.from_numpy(np.where(batch.keep, batch.input_ids, -100)),
        ).loss
    assert float(total) / count == pytest.approx(float(reference), rel=1e-5)


def test_without_bos_the_first_token_of_a_context_is_not_predicted(tmp_path):
    build("gpt2").save_pretrained(tmp_path)
    save_tokenizer(tmp_path, prepends=None, declares=False)
    model = LanguageModel.load(tmp_path, device="cpu")
    assert model.bos_id is None
    assert model.loss(batch_of(model))[1] == 19 - 3


@pytest.mark.parametrize(("name", "hook"), [(n, hook) for n in SOME for hook in FAMILIES[n].hooks])
def test_splicing_in_what_was_there_changes_nothing(tmp_path, name, hook):
    model = load(name, tmp_path)
    batch, point = batch_of(model), HookPoint(1, hook)
    (expected,) = model.run(batch, [point])
    seen = []

    def same(rows: torch.Tensor) -> torch.Tensor:
        seen.append(rows.clone())
        return rows

    assert torch.equal(model.loss(batch, {point: same})[0], model.loss(batch)[0])
    assert torch.allclose(torch.cat(seen), expected, atol=1e-6)
    assert not torch.isclose(model.loss(batch, {point: zero})[0], model.loss(batch)[0], rtol=1e-4)
    assert torch.equal(model.loss(batch, {})[0], model.loss(batch)[0])  # nothing stays behind


def test_splicing_replaces_kept_positions_only(tmp_path):
    model = load("llama", tmp_path)
    batch = batch_of(model)
    entered = []
    block = model.model.get_submodule("model.layers.2")
    block.register_forward_pre_hook(lambda _, args: entered.append(args[0].clone()))
    model.loss(batch)
    model.loss(batch, {HookPoint(1, "resid_post"): zero})
    plain, spliced = entered
    keep = torch.from_numpy(batch.keep)
    assert not spliced[keep].any()
    assert torch.equal(spliced[~keep], plain[~keep])
    assert plain[keep].any()


def test_zeroing_a_part_takes_it_out_of_the_sum(tmp_path):
    """Splicing resid_post with resid_post - mlp_out is the same as zeroing mlp_out."""
    model = load("gemma2", tmp_path)
    batch = batch_of(model)
    post, mlp = HookPoint(1, "resid_post"), HookPoint(1, "mlp_out")
    (removed,) = model.run(batch, [mlp])
    without, _ = model.loss(batch, {post: lambda rows: rows - removed})
    assert without.item() == pytest.approx(model.loss(batch, {mlp: zero})[0].item(), rel=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "opt", "olmo2"])
def test_a_sum_is_replaced_for_all_that_reads_it(tmp_path, name):
    """No module returns resid_mid: with the MLP silenced, what was put in leaves the block."""
    model = load(name, tmp_path)
    batch, left = batch_of(model), []

    def keep(rows: torch.Tensor) -> torch.Tensor:
        left.append(rows)
        return rows

    mid, mlp, post = (HookPoint(1, hook) for hook in ("resid_mid", "mlp_out", "resid_post"))
    (was,) = model.run(batch, [mid])
    model.loss(batch, {mid: lambda rows: rows * 0.5, mlp: zero, post: keep})
    assert torch.allclose(left[0], was * 0.5, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "llama", "gemma2", "opt", "openai-gpt"])
def test_what_stands_before_a_norms_gain_is_replaced_there(tmp_path, name):
    model, family = load(name, tmp_path), FAMILIES[name]
    batch, point, read = batch_of(model), HookPoint(1, "mlp_norm"), []
    model.width(point)  # finds it, by a pass of its own
    block = model.model.get_submodule(f"{family.block_path}.1")
    block.get_submodule(family.inside.reads).register_forward_hook(
        lambda _, args, __: read.append(args[0].reshape(*batch.keep.shape, -1))
    )
    model.loss(batch)
    model.loss(batch, {point: lambda rows: rows * 0.5})
    bias = getattr(block.get_submodule(family.inside.norm), "bias", None)
    old, new = read if bias is None else (x - bias for x in read)
    keep = torch.from_numpy(batch.keep)
    assert torch.allclose(new[keep], old[keep] / 2, atol=1e-5)
    assert torch.equal(new[~keep], old[~keep])


def test_bounded_logits_give_the_same_loss(tmp_path, monkeypatch):
    model = load("gpt2", tmp_path)
    batch = batch_of(model)
    whole, count = model.loss(batch, {HookPoint(0, "resid_post"): lambda rows: rows * 0.5})
    monkeypatch.setattr(models, "_LOGITS_AT_ONCE", 1)
    parts, again = model.loss(batch, {HookPoint(0, "resid_post"): lambda rows: rows * 0.5})
    assert count == again
    assert whole.item() == pytest.approx(parts.item(), rel=1e-6)


def test_a_model_that_predicts_no_next_token_has_no_loss(tmp_path):
    model = load("bert", tmp_path)
    assert model.unembedding() is None
    with pytest.raises(BadInput, match="does not predict the next token"):
        model.loss(batch_of(model))


@pytest.mark.parametrize("name", [n for n in CAUSAL if n != "gptj"])
def test_unembedding_turns_the_last_residuals_into_logits(tmp_path, name):
    """logits = (standardised residual · gain + bias) W_U: linear but for scale and centre."""
    model = load(name, tmp_path)
    batch = batch_of(model)
    W_U, gain = model.unembedding()
    assert W_U.shape == (D_MODEL, model.model.config.vocab_size)
    assert gain.shape == (D_MODEL,)
    (x,) = model.run(batch, [HookPoint(2, "resid_post")])
    norm = FAMILIES[name].final_norm and model.model.get_submodule(FAMILIES[name].final_norm)
    bias = 0.0
    if norm is not None:
        bias = getattr(norm, "bias", None)
        bias = 0.0 if bias is None else bias
        if "LayerNorm" in type(norm).__name__:
            x = x - x.mean(dim=-1, keepdim=True)
        x = x / x.square().mean(dim=-1, keepdim=True).sqrt()
    logits = (x * gain + bias) @ W_U
    softcap = getattr(model.model.config, "final_logit_softcapping", None)
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    with torch.no_grad():
        expected = model.model(
            input_ids=torch.from_numpy(batch.input_ids),
            attention_mask=torch.from_numpy(batch.attention_mask).long(),
        ).logits[torch.from_numpy(batch.keep)]
    assert (logits - expected).abs().max() <= 1e-3 * expected.abs().max()


def test_the_real_models_have_learned(shared_data):
    """Far below what knowing nothing costs: ln(512) = 6.2 and ln(105) = 4.7 nats."""
    text = "Once upon a time, there was a little girl named Lily. She loved to play outside."
    for name, highest in {"stories260k": 1.5, "llama2xs-279k": 1.9, "babyllama-105": 0.7}.items():
        model = LanguageModel.load(shared_data / "models" / name, device="cpu")
        ids = np.array(model.tokenizer(text, add_special_tokens=False)["input_ids"], np.int32)
        (batch,) = batches(contexts([ids], 255, model.bos_id), 10_000, model.pad_id)
        total, count = model.loss(batch)
        assert count == len(ids)
        assert float(total) / count < highest
