"""What a model may be loaded from, and the sentences for all that may not."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from families import N_LAYERS, build, save, save_tokenizer
from safetensors.torch import load_file, save_file
from torch import nn

from atlas.errors import BadInput
from atlas.ingest.models.blocks import find_blocks
from atlas.ingest.models.language_model import LanguageModel, pick_device
from atlas.ingest.models.sites import HookPoint
from atlas.ingest.text.contexts import batches, contexts


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return save("llama", tmp_path_factory.mktemp("pristine") / "tiny-llama")


@pytest.fixture
def folder(pristine, tmp_path):
    """A copy of a good model's folder, to be damaged."""
    return shutil.copytree(pristine, tmp_path / "tiny-llama")


def load(source, **options) -> LanguageModel:
    return LanguageModel.load(source, device="cpu", **options)


def refused(source, match: str, **options) -> None:
    """Loading is refused by one sentence of one line that ends in a full stop."""
    with pytest.raises(BadInput, match=match) as caught:
        load(source, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")


def change_config(folder, **settings) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def change_weights(folder, change) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def test_a_good_folder(folder, capfd):
    model = load(folder)
    assert (model.name, model.source, model.revision) == ("tiny-llama", str(folder), None)
    assert (model.model_type, model.n_layers, model.d_model) == ("llama", N_LAYERS, 16)
    assert (model.bos_id, model.pad_id, model.max_context) == (1, 0, 31)
    assert model.n_parameters == sum(p.numel() for p in build("llama").parameters())
    assert model.device.type == "cpu"
    assert not any(p.requires_grad for p in model.model.parameters())
    assert load(folder, name="mine").name == "mine"
    assert capfd.readouterr() == ("", "")


def test_folders_are_named_as_in_a_shell(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert load(".").name == "tiny-llama"
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load("~/tiny-llama").name == "tiny-llama"


def test_hash_is_of_the_weight_files(folder):
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert load(folder).sha256 == digest
    (folder / "README.md").write_text("more about it")
    assert load(folder).sha256 == digest
    change_weights(folder, lambda weights: weights["model.norm.weight"].add_(1))
    assert load(folder).sha256 != digest


def test_sharded_and_pickled_weights_are_the_same_model(folder, tmp_path):
    model = load(folder)
    sharded, pickled = tmp_path / "sharded", tmp_path / "pickled"
    model.model.save_pretrained(sharded, max_shard_size="10KB")
    save_tokenizer(sharded)
    shards = sorted(sharded.glob("*.safetensors"))
    assert len(shards) > 1
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in shards)).hexdigest()
    assert load(sharded).sha256 == digest
    shutil.copytree(folder, pickled)
    (pickled / "model.safetensors").unlink()
    torch.save(model.model.state_dict(), pickled / "pytorch_model.bin")
    ids = [np.arange(4, 14, dtype=np.int32)]
    (batch,) = batches(contexts(ids, 16, 1), 100, 0)
    point = HookPoint(2, "resid_post")
    for other in (load(sharded), load(pickled)):
        assert torch.equal(other.run(batch, [point])[0], model.run(batch, [point])[0])


def test_a_model_in_memory_is_hashed_by_its_weights(folder):
    def in_memory(seed: int) -> LanguageModel:
        return LanguageModel(
            build("llama", seed=seed),
            load(folder).tokenizer,
            name="built",
            source="memory",
            is_causal=True,
        )

    assert in_memory(0).sha256 == in_memory(0).sha256 != in_memory(1).sha256


def test_no_such_folder(tmp_path):
    for missing in (tmp_path / "nothing", "./nothing", "../nothing", "~/nothing", "a b", ""):
        refused(missing, "name a model's folder or its hub id")


def test_a_file_is_no_model(folder):
    refused(folder / "config.json", "is a file")


def test_a_hub_that_cannot_be_reached(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused("nobody/nothing-of-that-name", "the hub cannot be reached")


def test_no_config(folder):
    (folder / "config.json").unlink()
    refused(folder, "holds no config.json")


def test_broken_config(folder):
    (folder / "config.json").write_text("{")
    refused(folder, "cannot load the model")


def test_an_unknown_architecture(folder):
    change_config(folder, model_type="llamma")
    refused(folder, "llamma")


def test_code_that_comes_with_a_model_is_not_run(folder):
    (folder / "own.py").write_text("raise SystemExit('ran')")
    change_config(folder, model_type="own", auto_map={"AutoConfig": "own.OwnConfig"})
    refused(folder, "cannot load the model")


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    refused(folder, "a configuration but no weights")


@pytest.mark.parametrize("size", [0, 5, 1000, 20_000])
def test_truncated_weights(folder, size):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    refused(folder, "cannot load the model .* fetch them again")


def test_weights_that_are_a_pointer(folder):
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    refused(folder, "git lfs pull")


def test_a_missing_shard(folder, tmp_path):
    load(folder).model.save_pretrained(tmp_path / "sharded", max_shard_size="10KB")
    save_tokenizer(tmp_path / "sharded")
    sorted((tmp_path / "sharded").glob("*.safetensors"))[1].unlink()
    refused(tmp_path / "sharded", "is missing, though the index names it")
    (tmp_path / "sharded" / "model.safetensors.index.json").write_text("[]")
    refused(tmp_path / "sharded", "is no index of weights")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(folder, value):
    change_weights(folder, lambda w: w["model.layers.1.mlp.up_proj.weight"][2].fill_(value))
    refused(folder, "NaN or infinity, in model.layers.1.mlp.up_proj.weight")


def test_a_checkpoint_that_lacks_layers(folder):
    change_config(folder, num_hidden_layers=N_LAYERS + 1)
    refused(folder, "lacks 9 weights .* such as model.layers.3")


def test_a_checkpoint_that_lacks_its_head(folder):
    change_weights(folder, lambda weights: weights.pop("lm_head.weight"))
    refused(folder, "lacks 1 weights .* lm_head.weight")


def test_a_checkpoint_with_more_layers_than_its_configuration(folder):
    change_config(folder, num_hidden_layers=N_LAYERS - 1)
    refused(folder, "no place for, such as model.layers.2")


def test_a_checkpoint_with_biases_that_would_be_dropped(folder):
    change_weights(
        folder, lambda w: w.update({"model.layers.0.self_attn.q_proj.bias": torch.ones(16)})
    )
    refused(folder, "no place for, such as model.layers.0.self_attn.q_proj.bias")


def test_buffers_of_old_checkpoints_are_no_loss(folder, tmp_path):
    change_weights(
        folder, lambda w: w.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)})
    )
    load(folder)
    gpt1 = save("openai-gpt", tmp_path / "gpt1")
    change_weights(
        gpt1, lambda w: w.update({"transformer.h.0.attn.bias": torch.ones(1, 1, 32, 32)})
    )
    load(gpt1)


def test_weights_of_another_shape(folder):
    change_config(folder, intermediate_size=48)
    refused(folder, "cannot load the model")


def test_an_encoder_without_its_head(tmp_path):
    """Its head is not needed, so its absence is no loss."""
    model = build("bert")
    model.bert.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    assert torch.equal(
        load(tmp_path).model.encoder.layer[1].output.dense.weight,
        model.bert.encoder.layer[1].output.dense.weight,
    )


def test_encoder_decoders_are_refused(folder):
    change_config(folder, model_type="t5", is_encoder_decoder=True)
    refused(folder, "is an encoder-decoder")


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
def test_no_tokenizer(tmp_path, name):
    """For some families transformers makes up an empty one."""
    build(name).save_pretrained(tmp_path)
    refused(tmp_path, "tokenizer.json")


def test_a_broken_tokenizer(folder):
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    refused(folder, "cannot load the tokenizer")


def test_a_slow_tokenizer(folder):
    from transformers import ByT5Tokenizer

    (folder / "tokenizer.json").unlink()
    ByT5Tokenizer().save_pretrained(folder)
    refused(folder, "a fast tokenizer")


def test_a_tokenizer_with_more_ids_than_embeddings(folder):
    path = folder / "tokenizer.json"
    core = json.loads(path.read_text())
    core["model"]["vocab"]["zebra"] = 24
    path.write_text(json.dumps(core))
    refused(folder, "has ids up to 24, but the model embeds only 24")


def test_special_tokens_beyond_the_embeddings_do_no_harm(folder):
    """Text never yields them; Gemma 3 has one."""
    tokenizer = load(folder).tokenizer
    tokenizer.add_special_tokens({"pad_token": "<image>"})
    tokenizer.save_pretrained(folder)
    assert tokenizer.pad_token_id == 24
    assert load(folder).pad_id == 2  # </s> instead


@pytest.mark.parametrize(
    ("family", "prepends", "declares", "bos_id"),
    [
        ("llama", "<s>", True, 1),
        ("llama", "<unk>", True, 3),  # the tokenizer's own deed before its word
        ("llama", None, True, 1),
        ("gpt2", None, True, 1),
        ("gpt2", None, False, None),
        ("bert", None, True, None),
        ("bert", "<s>", True, 1),
    ],
)
def test_which_token_begins_a_context(tmp_path, family, prepends, declares, bos_id):
    build(family).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, prepends=prepends, declares=declares)
    assert load(tmp_path).bos_id == bos_id


@pytest.mark.parametrize("family", ["llama", "gpt2", "roberta", "opt", "bert", "openai-gpt"])
def test_the_longest_context_fits(tmp_path, family):
    model = load(save(family, tmp_path))
    longest = model.max_context
    assert longest == 31
    model.check_context(longest)
    with pytest.raises(BadInput, match=r"--context 32 is more than .* give 31 or less"):
        model.check_context(longest + 1)
    with pytest.raises(BadInput, match="give 1 or more"):
        model.check_context(0)
    point = HookPoint(0, "resid_post")
    ids = [np.full(longest, 5, dtype=np.int32)]
    (batch,) = batches(contexts(ids, longest, model.bos_id), 100, model.pad_id)
    assert model.run(batch, [point])[0].shape == (longest, 16)
    (batch,) = batches(contexts([np.full(40, 5, np.int32)], 40, model.bos_id), 100, 0)
    with pytest.raises(BadInput, match="smaller --context"):
        model.run(batch, [point])


def test_devices():
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for wrong in ("gpu", "cuda:99"):
        with pytest.raises(BadInput, match=r"--device .* use auto, cpu or cuda"):
            pick_device(wrong)


def test_block_path(folder):
    assert load(folder, block_path="model.layers").n_layers == N_LAYERS
    refused(
        folder, "--block-path 'model.h' is no list .* one of: model.layers", block_path="model.h"
    )


class Stacks(nn.Module):
    """A model with a list of equal blocks under each name given."""

    def __init__(self, **depths: int) -> None:
        super().__init__()
        for name, depth in depths.items():
            blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(depth))
            self.add_module(name, nn.ModuleDict({"layers": blocks}))


def test_blocks_are_the_one_list_as_long_as_the_model_is_deep():
    assert find_blocks(Stacks(text=4, adapters=2), 4, None)[0] == "text.layers"
    assert find_blocks(Stacks(text=4), None, None)[0] == "text.layers"
    assert find_blocks(Stacks(vision=4, language_model=4), 4, None)[0] == "language_model.layers"
    path, blocks = find_blocks(Stacks(left=4, right=4), 4, "right.layers")
    assert (path, len(blocks)) == ("right.layers", 4)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (Stacks(left=4, right=4), "several lists .* --block-path, one of: left.layers, right"),
        (Stacks(only=3), "no list of 4 equal blocks .* --block-path, one of: only.layers"),
        (nn.Linear(2, 2), "no list .* cannot be read by its blocks"),
        (nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU(), nn.ReLU()]), "no list"),
    ],
)
def test_blocks_that_cannot_be_told(model, sentence):
    with pytest.raises(BadInput, match=sentence):
        find_blocks(model, 4, None)


def test_experts_within_blocks_are_no_blocks():
    block = nn.ModuleDict({"experts": nn.ModuleList(nn.Linear(2, 2) for _ in range(2))})
    model = nn.ModuleDict({"layers": nn.ModuleList([block, block])})
    assert find_blocks(model, 2, None)[0] == "layers"
