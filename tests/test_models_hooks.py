"""Activations at hook points against Hugging Face's own hidden states, family by family."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import CAUSAL, D_MODEL, FAMILIES, N_LAYERS, save

from atlas.errors import BadInput
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint
from atlas.ingest.text.contexts import Batch, batches, contexts
from atlas.names import HOOKS

LENGTHS = (9, 4, 6)
SUM = ("resid_pre", "resid_post", "mlp_out", "attn_out")


def everywhere(name: str) -> list[HookPoint]:
    return [HookPoint(layer, hook) for layer in range(N_LAYERS) for hook in FAMILIES[name].hooks]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Each family's model, loaded once from a folder."""
    models = {}

    def load(name: str) -> LanguageModel:
        if name not in models:
            models[name] = LanguageModel.load(
                save(name, tmp_path_factory.mktemp("model")), device="cpu"
            )
        return models[name]

    return load


def batch_of(model: LanguageModel, lengths=LENGTHS, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    ids = [rng.integers(3, 20, n).astype(np.int32) for n in lengths]
    (batch,) = batches(contexts(ids, 16, model.bos_id), 10_000, model.pad_id)
    return batch


def hidden_states(model: LanguageModel, batch: Batch) -> list[torch.Tensor]:
    with torch.no_grad():
        output = model.model(
            input_ids=torch.from_numpy(batch.input_ids),
            attention_mask=torch.from_numpy(batch.attention_mask).long(),
            output_hidden_states=True,
        )
    return [states[torch.from_numpy(batch.keep)] for states in output.hidden_states]


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert a.shape == b.shape
    assert (a - b).abs().max() <= tolerance * b.abs().max()


class Calls:
    """Counts how often modules were computed to their end."""

    def __init__(self, *modules: torch.nn.Module) -> None:
        self.counts = [0] * len(modules)
        for i, module in enumerate(modules):
            module.register_forward_hook(lambda *_, i=i: self._count(i))

    def _count(self, i: int) -> None:
        self.counts[i] += 1


@pytest.mark.parametrize("name", FAMILIES)
def test_residual_stream_is_hugging_faces_before_the_final_norm(loaded, name):
    model, family = loaded(name), FAMILIES[name]
    assert model.block_path == family.block_path
    assert (model.n_layers, model.d_model) == (N_LAYERS, D_MODEL)
    assert model.is_causal == (name in CAUSAL)
    batch = batch_of(model)
    assert not batch.attention_mask.all()
    states = hidden_states(model, batch)
    pre = model.run(batch, [HookPoint(layer, "resid_pre") for layer in range(N_LAYERS)])
    post = model.run(batch, [HookPoint(layer, "resid_post") for layer in range(N_LAYERS)])
    assert all(x.dtype == torch.float32 and x.shape == (sum(LENGTHS), D_MODEL) for x in pre + post)
    for layer in range(N_LAYERS):
        close(pre[layer], states[layer])
    for layer in range(N_LAYERS - 1):
        close(post[layer], states[layer + 1])
    last = post[-1]
    if family.final_norm is not None:
        # The trap: the last entry of hidden_states has been normalised already.
        assert (last - states[-1]).abs().max() > 0.1
        last = model.model.get_submodule(family.final_norm)(last)
    close(last, states[-1])


@pytest.mark.parametrize("name", FAMILIES)
def test_attention_and_mlp_outputs_add_up_in_the_residual_stream(loaded, name):
    model, family = loaded(name), FAMILIES[name]
    for layer in range(N_LAYERS):
        pre, post, mlp, attn = model.run(batch_of(model), [HookPoint(layer, hook) for hook in SUM])
        assert attn.norm() > 1e-3 * pre.norm()
        assert mlp.norm() > 1e-3 * pre.norm()
        if family.post_norm is None:
            close(pre + attn + mlp, post)
        else:
            block = model.model.get_submodule(f"{family.block_path}.{layer}")
            after_attn, after_mlp = (block.get_submodule(path) for path in family.post_norm)
            close(after_mlp(after_attn(pre + attn) + mlp), post)


@pytest.mark.parametrize("name", FAMILIES)
def test_parts_are_the_familys_own(loaded, name):
    """Which of two modules is attention cannot be told from the sum alone."""
    model, family = loaded(name), FAMILIES[name]
    batch = batch_of(model)
    outputs = []
    for hook, path in (("attn_out", family.attn), ("mlp_out", family.mlp)):
        module = model.model.get_submodule(f"{family.block_path}.1.{path}")
        handle = module.register_forward_hook(lambda *call: outputs.append(call[-1]))
        (read,) = model.run(batch, [HookPoint(1, hook)])
        handle.remove()
        output = outputs[-1] if isinstance(outputs[-1], torch.Tensor) else outputs[-1][0]
        keep = torch.from_numpy(batch.keep)
        assert torch.equal(output.reshape(*keep.shape, -1)[keep], read)


def passing(model: LanguageModel, path: str, side: str, batch: Batch) -> torch.Tensor:
    """What enters or leaves a module of block 1, as its own hooks see it, kept rows."""
    seen = []
    module = model.model.get_submodule(f"{model.block_path}.1.{path}")
    handle = module.register_forward_hook(
        lambda _, args, kwargs, output: seen.append(
            output if side == "output" else (*args, *kwargs.values())[0]
        ),
        with_kwargs=True,
    )
    hidden_states(model, batch)
    handle.remove()
    keep = torch.from_numpy(batch.keep)
    return seen[0].reshape(*keep.shape, -1)[keep]


@pytest.mark.parametrize("name", FAMILIES)
def test_what_sublayers_read_and_compute_is_what_enters_their_maps(loaded, name):
    model, inside = loaded(name), FAMILIES[name].inside
    batch = batch_of(model)
    for hook, path in (("mlp_in", inside.reads), ("attn_z", inside.z), ("mlp_act", inside.act)):
        if path is not None:
            expected = passing(model, path, "input", batch)
            (read,) = model.run(batch, [HookPoint(1, hook)])
            assert torch.equal(read, expected)
            assert model.width(HookPoint(1, hook)) == expected.shape[1]
    if inside.norm is not None:
        assert torch.equal(
            model.run(batch, [HookPoint(1, "mlp_in")])[0],
            passing(model, inside.norm, "output", batch),
        )


def test_widths_are_each_points_own(loaded):
    def widths(name: str, **expected: int) -> None:
        model = loaded(name)
        assert {hook: model.width(HookPoint(2, hook)) for hook in expected} == expected

    widths("gpt2", resid_mid=D_MODEL, mlp_in=D_MODEL, attn_z=D_MODEL, mlp_act=4 * D_MODEL)
    widths("gemma2", attn_out=D_MODEL, mlp_norm=D_MODEL, attn_z=2 * 10, mlp_act=24)
    widths("modernbert", mlp_act=24)  # one map makes both factors, 48 wide


@pytest.mark.parametrize("name", [name for name in FAMILIES if FAMILIES[name].inside.norm])
def test_the_norms_gain_and_bias_come_after_mlp_norm(loaded, name):
    model = loaded(name)
    norm = model.model.get_submodule(f"{model.block_path}.1.{FAMILIES[name].inside.norm}")
    read, normal = model.run(batch_of(model), [HookPoint(1, "mlp_in"), HookPoint(1, "mlp_norm")])
    gain = norm.weight + 1 if "Gemma" in type(norm).__name__ else norm.weight
    bias = getattr(norm, "bias", None)
    close(normal * gain + (0 if bias is None else bias), read)
    close(normal.square().mean(1), torch.ones(len(normal)), 1e-3)
    if "LayerNorm" in type(norm).__name__:
        close(normal.mean(1) + 1, torch.ones(len(normal)))


@pytest.mark.parametrize("name", [name for name in FAMILIES if not FAMILIES[name].inside.parallel])
def test_resid_mid_is_the_stream_between_attention_and_mlp(loaded, name):
    model, family = loaded(name), FAMILIES[name]
    pre, attn, mid, mlp, post = model.run(
        batch_of(model),
        [
            HookPoint(1, hook)
            for hook in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
        ],
    )
    if family.post_norm is None:
        close(pre + attn, mid)
        close(mid + mlp, post)
    else:
        block = model.model.get_submodule(f"{family.block_path}.1")
        after_attn, after_mlp = (block.get_submodule(path) for path in family.post_norm)
        close(after_attn(pre + attn), mid)
        close(after_mlp(mid + mlp), post)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_place_that_a_block_has_not_is_told(loaded, name):
    model = loaded(name)
    for hook in set(HOOKS) - set(FAMILIES[name].hooks):
        with pytest.raises(BadInput, match=f"has no {hook} in layer 1, since .*; use resid_pre"):
            model.width(HookPoint(1, hook))


@pytest.mark.parametrize("name", FAMILIES)
def test_forward_stops_after_the_last_hook(loaded, name):
    model = loaded(name)
    batch = batch_of(model)
    blocks = [model.model.get_submodule(f"{model.block_path}.{i}") for i in range(N_LAYERS)]
    heads = [m for m in [model.model.get_output_embeddings()] if m is not None]
    model.run(batch, [HookPoint(0, "mlp_out")])  # what finds the parts runs once, in full
    calls = Calls(*blocks, *heads)
    model.run(batch, [HookPoint(0, "resid_post")])
    model.run(batch, [HookPoint(1, "resid_pre"), HookPoint(0, "resid_post")])
    assert calls.counts == [2, 0, 0, *[0] * len(heads)]
    model.run(batch, everywhere(name))
    assert calls.counts == [3, 1, 1, *[0] * len(heads)]


@pytest.mark.parametrize("name", FAMILIES)
def test_passes_that_repeat_what_came_before_give_the_same(loaded, name):
    model = loaded(name)
    batch = batch_of(model)
    at, read = HookPoint(N_LAYERS - 2, "resid_post"), HookPoint(N_LAYERS - 1, "resid_post")

    def twice() -> tuple[torch.Tensor, torch.Tensor]:
        (before,) = model.run(batch, [read])
        (after,) = model.run(batch, [read], {at: lambda x: x + 0.5 * x.roll(1, dims=1)})
        return before, after

    expected = twice()
    assert not torch.equal(*expected)
    with model.repeating(at, [read]):
        found = twice()
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert not any("forward" in vars(block) for block in model.model.modules())
    # Their blocks hand on the residual stream and nothing else.
    assert model._goes_by_blocks


def test_attention_alone_leaves_the_mlp_uncomputed(loaded):
    model = loaded("llama")
    batch = batch_of(model)
    model.run(batch, [HookPoint(0, "attn_out")])
    calls = Calls(model.model.model.layers[0].mlp, model.model.model.layers[0].self_attn)
    model.run(batch, [HookPoint(0, "attn_out")])
    assert calls.counts == [0, 1]


@pytest.mark.parametrize("name", FAMILIES)
def test_padding_changes_nothing(loaded, name):
    model = loaded(name)
    together = model.run(batch_of(model), everywhere(name))
    rng = np.random.default_rng(0)
    ids = [rng.integers(3, 20, n).astype(np.int32) for n in LENGTHS]
    alone = [
        model.run(next(batches(contexts([row], 16, model.bos_id), 1, 0)), everywhere(name))
        for row in ids
    ]
    for i, activations in enumerate(together):
        close(torch.cat([one[i] for one in alone]), activations)


def test_points_come_in_the_order_asked_for_and_leave_no_hooks(loaded):
    model = loaded("gpt2")
    batch = batch_of(model)

    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.model.modules())

    before = hooks()
    one, two, again = model.run(
        batch, [HookPoint(2, "resid_pre"), HookPoint(0, "attn_out"), HookPoint(2, "resid_pre")]
    )
    assert torch.equal(one, again)
    assert torch.equal(two, model.run(batch, [HookPoint(0, "attn_out")])[0])
    assert not one.requires_grad
    assert hooks() == before
    assert model.run(batch, []) == []


def test_activations_can_enter_a_graph(loaded):
    """A tensor made in inference mode could not be saved for a backward pass."""
    model = loaded("llama")
    (x,) = model.run(batch_of(model), [HookPoint(0, "resid_post")])
    weight = torch.ones(D_MODEL, 2, requires_grad=True)
    (x @ weight).sum().backward()
    assert weight.grad is not None


def test_a_batch_that_keeps_nothing(loaded):
    model = loaded("llama")
    batch = batch_of(model)
    bare = Batch(batch.input_ids, batch.attention_mask, np.zeros_like(batch.keep), batch.token[:0])
    (x,) = model.run(bare, [HookPoint(1, "mlp_out")])
    assert x.shape == (0, D_MODEL)


def test_a_block_that_is_no_sum_is_told(tmp_path):
    import transformers

    folder = save("llama", tmp_path / "llama")
    config = transformers.GraniteConfig.from_pretrained(folder, residual_multiplier=0.2)
    transformers.GraniteForCausalLM(config).save_pretrained(folder)
    model = LanguageModel.load(folder, device="cpu")
    batch = batch_of(model)
    assert len(model.run(batch, [HookPoint(0, "resid_post")])) == 1
    with pytest.raises(BadInput, match=r"layer 0 .* only resid_pre and resid_post"):
        model.run(batch, [HookPoint(0, "attn_out")])


def test_hook_points_are_checked(loaded):
    model = loaded("llama")
    assert str(HookPoint(2, "mlp_out")) == "2-mlp_out"
    assert model.width(HookPoint(2, "mlp_out")) == D_MODEL
    with pytest.raises(BadInput, match="no hook 'pattern'"):
        HookPoint(0, "pattern")
    for layer in (N_LAYERS, -1):
        with pytest.raises(BadInput, match="its layers are 0 to 2"):
            model.run(batch_of(model), [HookPoint(layer, "resid_post")])


def test_real_models(shared_data):
    for name, layers in {"stories260k": 5, "babyllama-105": 5, "llama2xs-279k": 5}.items():
        model = LanguageModel.load(shared_data / "models" / name, device="cpu")
        assert (model.n_layers, model.bos_id, model.block_path) == (layers, 1, "model.layers")
        batch = batch_of(model, lengths=(60, 40))
        points = [HookPoint(3, hook) for hook in HOOKS]
        found = dict(zip(HOOKS, model.run(batch, points), strict=True))
        pre, post, mlp, attn = (found[hook] for hook in SUM)
        close(pre + attn + mlp, post)
        close(
            found["mlp_norm"].square().mean(1), torch.ones(100), 0.02
        )  # short of 1 by the norm's epsilon
        close(post, hidden_states(model, batch)[4])
    model = LanguageModel.load(shared_data / "models" / "tensorforge-gpt1-char", device="cpu")
    assert (model.n_layers, model.bos_id, model.max_context) == (5, None, 128)
    batch = batch_of(model, lengths=(60, 40))
    close(model.run(batch, [HookPoint(3, "resid_post")])[0], hidden_states(model, batch)[4])
    # Its fifth block computes nothing but the last LayerNorm.
    attn, mlp = model.run(batch, [HookPoint(4, "attn_out"), HookPoint(4, "mlp_out")])
    assert not attn.any()
    assert not mlp.any()


@pytest.mark.parametrize("name", FAMILIES)
def test_bfloat16_is_near_float32_and_the_parts_are_the_same(loaded, tmp_path, name):
    """As on CUDA: there the sums that tell the parts of a block are rounded to 8 bits."""
    model = LanguageModel.load(save(name, tmp_path), device="cpu")
    model.model.to(torch.bfloat16)
    batch = batch_of(model)
    for low, full in zip(
        model.run(batch, everywhere(name)), loaded(name).run(batch, everywhere(name)), strict=True
    ):
        assert low.dtype == torch.float32
        assert (low - full).norm() <= 0.05 * full.norm()


@pytest.mark.gpu
@pytest.mark.parametrize("name", FAMILIES)
def test_cuda_computes_in_bfloat16_what_the_cpu_does(loaded, tmp_path, name):
    save(name, tmp_path / "model")
    model = LanguageModel.load(tmp_path / "model", device="cuda")
    assert {weight.dtype for weight in model.model.parameters()} == {torch.bfloat16}
    batch = batch_of(model)
    for there, here in zip(
        model.run(batch, everywhere(name)), loaded(name).run(batch, everywhere(name)), strict=True
    ):
        assert there.dtype == torch.float32
        assert there.is_cuda
        assert (there.cpu() - here).norm() <= 0.05 * here.norm()
