"""Files of SAELens: recognised, placed, and computed as SAELens computes them."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from atlas.errors import BadInput
from atlas.ingest.importing.formats import read_dictionaries
from tests.golden import DATA, assert_conforms, assert_same_codes, cases, changed, found_in

SAELENS = DATA / "saelens"


@pytest.mark.parametrize("name", cases("saelens"))
def test_it_computes_what_saelens_does(name):
    assert_conforms(SAELENS / name, "saelens")


@pytest.mark.parametrize(
    "name, architecture, activation, k, places",
    [
        ("standard", "standard", "relu", None, ["resid_post"] * 2),
        ("gated", "gated", "jumprelu", None, ["resid_post"] * 2),
        ("topk", "topk", "topk", 4, ["resid_post"] * 2),
        ("abstopk", "abstopk", "topk", 4, ["resid_post"] * 2),
        ("batchtopk_final", "batchtopk", "jumprelu", 4, ["resid_post"] * 2),
        ("matryoshka_final", "matryoshka", "jumprelu", 4, ["resid_post"] * 2),
        ("batchtopk_checkpoint", "batchtopk", "jumprelu", 4, ["resid_post"] * 2),
        ("matching_pursuit", "matching-pursuit", "matching_pursuit", 4, ["resid_post"] * 2),
        ("hook_z", "jumprelu", "jumprelu", None, ["attn_z"] * 2),
        ("skip_transcoder", "skip-transcoder", "relu", None, ["mlp_norm", "mlp_out"]),
        ("jumprelu_transcoder", "transcoder", "jumprelu", None, ["mlp_norm", "mlp_out"]),
        ("before_6", "standard", "relu", None, ["resid_pre"] * 2),
        ("before_6_topk_float16", "topk", "topk", 4, ["mlp_out"] * 2),
    ],
)
def test_what_it_is_and_where_it_belongs(name, architecture, activation, k, places):
    found = found_in(SAELENS / name)
    sae = found.load()
    assert (found.architecture, sae.activation, sae.k) == (architecture, activation, k)
    assert [found.inputs[0][1], found.outputs[0][1]] == places
    assert found.model.startswith("gpt2")


def test_declared_metrics():
    assert found_in(SAELENS / "batchtopk_final").declared == {"l0": 3.5, "dead_share": 2 / 16}
    (l0,) = found_in(SAELENS / "before_6").declared.values()
    assert l0 == pytest.approx(float((10 ** torch.linspace(-4, -0.5, 16)).sum()))
    assert found_in(SAELENS / "standard").declared == {}


def test_notes_tell_what_was_folded():
    def notes(name):
        return " ".join(found_in(SAELENS / name).conventions["notes"])

    assert "input's scale" in notes("batchtopk_checkpoint")
    assert "whitening" in notes("topk_checkpoint_whitened")
    assert "Lengths of decoder directions" in notes("topk_rescaled")
    assert "bfloat16" in notes("square_bfloat16")
    assert "two" in notes("abstopk")
    assert "apply_b_dec_to_input is not stated" in notes("before_6")
    assert notes("topk") == ""


def test_a_model_with_centred_weights_is_folded(tmp_path):
    """Raw activations give the codes of centred ones, and their own mean comes back."""
    plain = found_in(SAELENS / "topk")
    metadata = plain.conventions["published"]["metadata"]
    metadata |= {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    found = found_in(changed(SAELENS / "topk", tmp_path / "a", config={"metadata": metadata}))
    assert "center_writing_weights" in found.conventions["notes"][0]
    sae, x = plain.load(), torch.randn(20, 6) + 3
    centred = x - x.mean(1, keepdim=True)
    code = sae.encode(centred)
    expected = sae.decode(code, centred)
    expected += x.mean(1, keepdim=True)
    assert_same_codes(found.load(), x, code.dense(16), expected)


def test_a_known_release_says_what_its_files_do_not(tmp_path):
    place = tmp_path / "jbloom" / "GPT2-Small-SAEs-Reformatted" / "blocks.8.hook_resid_pre"
    assert found_in(changed(SAELENS / "before_6", place)).load().W_skip is not None
    assert found_in(SAELENS / "before_6").load().W_skip is None


def test_processing_that_changes_heads_is_refused(tmp_path):
    metadata = found_in(SAELENS / "hook_z").conventions["published"]["metadata"]
    metadata |= {"model_from_pretrained_kwargs": {"fold_value_biases": True}}
    folder = changed(SAELENS / "hook_z", tmp_path / "a", config={"metadata": metadata})
    with pytest.raises(BadInput, match="fold_value_biases"):
        found_in(folder)


def test_many_in_one_folder_come_in_natural_order(tmp_path):
    for layer in (10, 9, 2):
        changed(SAELENS / "topk", tmp_path / f"layer_{layer}")
    assert [f.place for f in read_dictionaries(str(tmp_path))] == ["layer_2", "layer_9", "layer_10"]


def test_a_file_stands_for_its_folder():
    found = found_in(SAELENS / "topk" / "sae_weights.safetensors")
    assert (found.place, found.d_sae) == (".", 16)


@pytest.mark.parametrize(
    "case, config, sentence",
    [
        ("standard", {"architecture": "later"}, "architecture 'later'.*which knows"),
        ("standard", {"architecture": "temporal"}, "temporal SAE.*attention"),
        ("standard", {"d_sae": 17}, "says d_sae 17, but the tensors"),
        ("standard", {"normalize_activations": "l7"}, "normalize_activations 'l7'"),
        ("standard", {"normalize_activations": "expected_average_only_in"}, "activation_scaler"),
        ("standard", {"normalize_activations": "covariance_whitening"}, "activation_whitening"),
        ("standard", {"metadata": {"hook_head_index": 3}}, "one attention head"),
        ("topk", {"k": None}, "'k' is None"),
        ("topk", {"k": 17}, "k = 17 largest"),
        ("transcoder", {"apply_b_dec_to_input": True}, "apply_b_dec_to_input"),
        ("transcoder", {"normalize_activations": "layer_norm"}, "transcoder with normalize"),
        ("matching_pursuit", {"stop_on_duplicate_support": False}, "stop_on_duplicate_support"),
        ("before_6", {"activation_fn_str": "tanh-relu"}, "activation function 'tanh-relu'"),
        ("before_6_topk_float16", {"architecture": "gated"}, "combines"),
    ],
)
def test_configurations_that_cannot_be_are_told(tmp_path, case, config, sentence):
    folder = changed(SAELENS / case, tmp_path / "a", config=config)
    with pytest.raises(BadInput, match=sentence):
        found_in(folder).load()


def _drop(name):
    return lambda tensors: tensors.pop(name)


def _put(name, change):
    return lambda tensors: tensors.update({name: change(tensors[name])})


@pytest.mark.parametrize(
    "case, change, sentence",
    [
        ("standard", _drop("b_enc"), "has no 'b_enc'"),
        ("standard", _drop("W_dec"), "has no 'W_dec'"),
        ("gated", _drop("r_mag"), "has no 'r_mag'"),
        ("standard", _put("W_enc", lambda t: t.T), r"W_enc.*shape|d_in 6, but"),
        ("standard", _put("b_dec", lambda t: t[:4]), r"'b_dec'.*\(4,\) instead of \(6,\)"),
        ("standard", _put("W_enc", lambda t: t * torch.nan), "not finite"),
        ("standard", lambda tensors: tensors.update(W_skip=torch.zeros(6, 6)), "also has W_skip"),
        (
            "before_6",
            _put("scaling_factor", lambda t: t * 2),
            "scaling_factor that is not 1",
        ),
    ],
)
def test_tensors_that_cannot_be_are_told(tmp_path, case, change, sentence):
    folder = changed(SAELENS / case, tmp_path / "a", tensors=change)
    with pytest.raises(BadInput, match=sentence):
        found_in(folder).load()


def test_a_trained_scaling_factor_is_folded(tmp_path):
    factor = torch.linspace(0.5, 2, 16)
    folder = changed(
        SAELENS / "before_6",
        tmp_path / "a",
        config={"finetuning_scaling_factor": True},
        tensors=lambda tensors: tensors.update(scaling_factor=factor),
    )
    plain, scaled = found_in(SAELENS / "before_6").load(), found_in(folder).load()
    torch.testing.assert_close(scaled.W_dec, plain.W_dec * factor[:, None])
    assert torch.equal(scaled.W_enc, plain.W_enc)


def test_damaged_files_are_told(tmp_path):
    folder = changed(SAELENS / "standard", tmp_path / "a")
    weights = folder / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(BadInput, match=r"sae_weights\.safetensors cannot be read"):
        found_in(folder)
    (folder / "cfg.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be read as JSON"):
        found_in(folder)


def test_the_newest_library_still_writes_what_is_read(tmp_path):
    """Live, with wider SAEs than the files beside the tests."""
    pytest.importorskip("sae_lens")
    from sae_lens import SAE
    from sae_lens.registry import get_sae_class

    x = torch.randn(50, 24) * 2 + 1
    for name in ("standard", "gated", "topk", "jumprelu", "transcoder", "skip_transcoder"):
        config = {"d_in": 24, "d_sae": 96} | ({"k": 7} if name == "topk" else {})
        if "transcoder" in name:
            config |= {"d_out": 20, "apply_b_dec_to_input": False}
        sae_class, config_class = get_sae_class(name)
        sae = sae_class(config_class(**config))
        for tensor in sae.state_dict().values():
            tensor.normal_().div_(5)
        sae.save_model(tmp_path / name)
        sae = SAE.load_from_disk(tmp_path / name)
        with torch.no_grad():
            acts, y = sae.encode(x), sae(x)
        assert_same_codes(found_in(tmp_path / name).load(), x, acts, y, atol=2e-5)


def test_stored_float16_is_read_as_it_is():
    path = SAELENS / "before_6_topk_float16" / "sae_weights.safetensors"
    stored = load_file(path)["W_enc"]
    assert stored.dtype == torch.float16
    assert torch.equal(found_in(path.parent).load().W_enc, stored.float())


def test_the_oldest_hook_names(tmp_path):
    config = {"hook_point": "blocks.{layer}.hook_resid_pre", "hook_point_layer": 3}
    folder = changed(SAELENS / "before_6", tmp_path / "a")
    old = json.loads((folder / "cfg.json").read_text()) | config
    (folder / "cfg.json").write_text(
        json.dumps({k: v for k, v in old.items() if k not in ("hook_name", "hook_layer")})
    )
    assert found_in(folder).inputs == ((3, "resid_pre"),)


def test_unknown_hooks_leave_the_place_open(tmp_path):
    metadata = {"model_name": "gpt2", "hook_name": "blocks.3.attn.hook_q"}
    found = found_in(changed(SAELENS / "topk", tmp_path / "a", config={"metadata": metadata}))
    assert found.inputs is None
    assert "no hook point of the atlas" in " ".join(found.conventions["notes"])


def test_hugging_face_module_names_are_places(tmp_path):
    metadata = {"model_name": "gpt2", "hook_name": "transformer.h.3.mlp"}
    found = found_in(changed(SAELENS / "topk", tmp_path / "a", config={"metadata": metadata}))
    assert found.inputs == found.outputs == ((3, "mlp_out"),)


def test_a_file_saved_again_is_the_same(tmp_path):
    """The order of tensors and metadata of a safetensors file do not matter."""
    folder = changed(SAELENS / "topk", tmp_path / "a")
    weights = folder / "sae_weights.safetensors"
    tensors = load_file(weights)
    save_file(dict(reversed(tensors.items())), weights, {"by": "another"})
    assert found_in(folder).load().sha256() == found_in(SAELENS / "topk").load().sha256()
