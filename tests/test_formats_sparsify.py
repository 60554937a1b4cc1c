"""Files of EleutherAI's sparsify: recognised, placed by folder names, and computed as it does."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from atlas.errors import BadInput
from atlas.ingest.importing.formats import read_dictionaries
from tests.golden import DATA, assert_conforms, assert_same_codes, cases, changed, found_in

SPARSIFY = DATA / "sparsify"


@pytest.mark.parametrize("name", cases("sparsify"))
def test_it_computes_what_sparsify_does(name):
    assert_conforms(SPARSIFY / name, "sparsify")


@pytest.mark.parametrize(
    "name, inputs, outputs, architecture, pre_bias",
    [
        ("topk", (5, "resid_post"), (5, "resid_post"), "topk", True),
        ("square", (5, "mlp_out"), (5, "mlp_out"), "topk", True),
        ("num_latents_bfloat16", (2, "attn_out"), (2, "attn_out"), "topk", True),
        ("groupmax", (5, "resid_post"), (5, "resid_post"), "groupmax", True),
        ("transcoder", (5, "mlp_in"), (5, "mlp_out"), "transcoder", False),
        ("skip_transcoder", (5, "mlp_in"), (5, "mlp_out"), "skip-transcoder", False),
    ],
)
def test_what_it_is_and_where_it_belongs(name, inputs, outputs, architecture, pre_bias):
    found = found_in(SPARSIFY / name)
    assert (found.inputs, found.outputs) == ((inputs,), (outputs,))
    assert (found.architecture, found.model) == (architecture, None)
    sae = found.load()
    assert torch.equal(sae.pre_bias, sae.b_dec if pre_bias else torch.zeros(6))


def test_no_latents_stated_means_the_expansion_factor():
    published = found_in(SPARSIFY / "topk").conventions["published"]
    assert (published["num_latents"], published["expansion_factor"]) == (0, 3)
    assert found_in(SPARSIFY / "topk").d_sae == 18


def test_a_square_decoder_is_not_transposed():
    """Nothing but the format says which side is which where d_sae is d_in."""
    folder = SPARSIFY / "square" / "layers.5.mlp"
    assert torch.equal(
        found_in(folder).load().W_dec, load_file(folder / "sae.safetensors")["W_dec"]
    )


def test_signed_latents_of_versions_before(tmp_path):
    """The k largest magnitudes, by the formula of sparsify 0.1, whose configurations are short."""
    config = {"signed": True}
    folder = changed(SPARSIFY / "topk", tmp_path / "a", config=config)
    found = found_in(folder)
    assert (found.d_sae, found.load().d_sae) == (36, 36)
    stored = load_file(folder / "layers.5" / "sae.safetensors")
    x = torch.randn(20, 6) + 1
    pre = (x - stored["b_dec"]) @ stored["encoder.weight"].T + stored["encoder.bias"]
    index = pre.abs().topk(4).indices
    acts = torch.zeros_like(pre).scatter(1, index, pre.gather(1, index))
    assert (acts < 0).any()
    assert_same_codes(found.load(), x, acts, acts @ stored["W_dec"] + stored["b_dec"])


def test_transcoders_that_were_not_yet_recorded(tmp_path):
    """Until February 2025 only the skip connection tells, and b_dec is taken off the input."""
    folder = changed(SPARSIFY / "skip_transcoder", tmp_path / "a")
    (path,) = folder.rglob("cfg.json")
    config = json.loads(path.read_text())
    del config["transcode"]
    path.write_text(json.dumps(config))
    found = found_in(folder)
    assert (found.inputs, found.outputs) == (((5, "mlp_in"),), ((5, "mlp_out"),))
    sae = found.load()
    assert torch.equal(sae.pre_bias, sae.b_dec)
    assert "before February 2025" in " ".join(found.conventions["notes"])


def test_a_folder_for_each_seed(tmp_path):
    for seed in (0, 1):
        changed(SPARSIFY / "topk" / "layers.5", tmp_path / "layers.5" / f"seed{seed}")
    found = read_dictionaries(str(tmp_path))
    assert [one.place for one in found] == ["layers.5/seed0", "layers.5/seed1"]
    assert all(one.inputs == ((5, "resid_post"),) for one in found)


def test_a_folder_of_hook_points(tmp_path):
    for name, hookpoint in (
        ("topk", "layers.10"),
        ("topk", "layers.9"),
        ("square", "layers.9.mlp"),
    ):
        (source,) = (path for path in (SPARSIFY / name).iterdir() if path.is_dir())
        changed(source, tmp_path / hookpoint)
    found = read_dictionaries(str(tmp_path))
    assert [one.place for one in found] == ["layers.9", "layers.9.mlp", "layers.10"]
    assert [one.inputs for one in found] == [
        ((9, "resid_post"),),
        ((9, "mlp_out"),),
        ((10, "resid_post"),),
    ]


def test_a_folder_that_names_no_hook_point_leaves_the_place_open(tmp_path):
    found = found_in(changed(SPARSIFY / "topk" / "layers.5", tmp_path / "my-sae"))
    assert found.inputs is None
    assert "'my-sae' names no module" in " ".join(found.conventions["notes"])


@pytest.mark.parametrize(
    "config, sentence",
    [
        ({"activation": "later"}, "activation 'later'.*which knows topk, groupmax"),
        ({"tied": True}, "also states tied"),
        ({"k": 0}, "k = 0 largest"),
        ({"k": None}, "k = None largest"),
        ({"d_in": None}, "'d_in' is None"),
        ({"d_in": 7}, "do not belong together"),
        ({"num_latents": 17}, "do not belong together"),
        ({"activation": "groupmax", "k": 5}, "into 5 groups"),
        ({"skip_connection": True}, "has no 'W_skip'"),
    ],
)
def test_configurations_that_cannot_be_are_told(tmp_path, config, sentence):
    folder = changed(SPARSIFY / "topk", tmp_path / "a", config=config)
    with pytest.raises(BadInput, match=sentence):
        found_in(folder).load()


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda t: t.pop("b_dec"), "has no 'b_dec'"),
        (lambda t: t.update(W_dec=t["W_dec"].T), r"'W_dec'.*\(6, 18\) instead of \(18, 6\)"),
        (lambda t: t["W_dec"].fill_(torch.inf), "not finite"),
        (lambda t: t.update(W_skip=torch.zeros(6, 6)), "also has W_skip"),
    ],
)
def test_tensors_that_cannot_be_are_told(tmp_path, change, sentence):
    folder = changed(SPARSIFY / "topk", tmp_path / "a", tensors=change)
    with pytest.raises(BadInput, match=sentence):
        found_in(folder).load()


def test_the_newest_library_still_writes_what_is_read(tmp_path, monkeypatch):
    """Live, with wider coders than the files beside the tests."""
    monkeypatch.setenv("SPARSIFY_DISABLE_TRITON", "1")
    sparsify = pytest.importorskip("sparsify")
    x = torch.randn(50, 24) * 2 + 1
    for n, options in enumerate(({}, {"transcode": True}, {"expansion_factor": 1})):
        config = sparsify.SparseCoderConfig(**{"expansion_factor": 4, "k": 7} | options)
        coder = sparsify.SparseCoder(24, config)
        for tensor in coder.state_dict().values():
            tensor.normal_().div_(5)
        folder = tmp_path / str(n) / "layers.3"
        coder.save_to_disk(folder)
        with torch.no_grad():
            values, indices, pre = coder.encode(x)
            y = coder.decode(values, indices)
        acts = torch.zeros_like(pre).scatter(1, indices, values)
        assert_same_codes(found_in(folder).load(), x, acts, y, atol=2e-5)
