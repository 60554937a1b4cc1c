"""Llama Scope of 2024, R1-Distill and Llamascopium: scales, decoder norms and thresholds.

`theirs_2024` states what OpenMOSS' library computed once it had loaded a file (Language-Model-SAEs
1e710367: `from_config`, `encode`), `theirs` what it does since 2025 (95281ac: `SparseAutoEncoder`).
"""

from __future__ import annotations

import json
import math

import pytest
import torch

from atlas.errors import BadInput
from atlas.ingest.importing.formats import read_dictionaries
from tests.published import FOLDER, Runs, acts_of, check, expected, one, write

D, N = 8, 16
HOOK, OUT = "blocks.3.hook_resid_post", "blocks.3.hook_mlp_out"


def linear(n=N, seed=0, biased=True):
    """encoder and decoder as two torch.nn.Linear; decoder norms far from 1."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    weights = {
        "encoder.weight": 0.5 * normal(n, D),
        "encoder.bias": 0.5 * normal(n),
        "decoder.weight": normal(D, n) * (0.3 + torch.rand(n, generator=generator)),
    }
    return weights | ({"decoder.bias": 0.5 * normal(D)} if biased else {})


def inputs(rows=40):
    return 0.5 + 2 * torch.randn(rows, D, generator=torch.Generator().manual_seed(9))


def kept(pre, score, act_fn, k, threshold):
    """pre where its score passes."""
    if act_fn == "relu":
        return pre * (score > 0)
    if act_fn == "jumprelu":
        return pre * (score > threshold)
    top = score.relu().topk(k, dim=1).indices
    return (pre * torch.zeros_like(pre).scatter(1, top, 1.0)).relu()


# 2024


def config_2024(**settings):
    config = {
        "hook_point_in": HOOK,
        "hook_point_out": HOOK,
        "d_model": D,
        "d_sae": N,
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.6,
        "top_k": 3,
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": 5.1, "out": 5.1},
        "sparsity_include_decoder_norm": True,
        "use_decoder_bias": True,
        "apply_decoder_bias_to_pre_encoder": False,
        "use_glu_encoder": False,
    }
    return config | settings


def write_2024(folder, config, weights, file="checkpoints/final.safetensors"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hyperparams.json").write_text(json.dumps(config))
    if file.endswith(".pt"):
        write(folder / file, {}, sae=weights, version="0.1")
    else:
        write(folder / file, weights)
    return folder


def theirs_2024(w, config, x):
    E, b, W = w["encoder.weight"], w["encoder.bias"], w["decoder.weight"]
    c = w.get("decoder.bias", torch.zeros(D))
    if config["norm_activation"] == "dataset-wise":
        norms = config["dataset_average_activation_norm"]
        s_in, s_out = (math.sqrt(D) / norms[side] for side in ("in", "out"))
        b, c, W = b / s_in, c / s_out, W * s_in / s_out
    if config["sparsity_include_decoder_norm"]:
        norm = W.norm(dim=0)
        W, E, b = W / norm, E * norm[:, None], b * norm
    factor = 1.0
    if config["norm_activation"] == "token-wise":
        factor = math.sqrt(D) / x.norm(dim=1, keepdim=True)
    h = x * factor - (c if config["apply_decoder_bias_to_pre_encoder"] else 0)
    pre = h @ E.T + b
    acts = kept(pre, pre, config["act_fn"], config["top_k"], config["jump_relu_threshold"])
    return acts, (acts @ W.T + c) / factor


@pytest.mark.parametrize("file", ["checkpoints/final.safetensors", "sae_weights.pt"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sparsity_include_decoder_norm": False},
        {"act_fn": "relu", "jump_relu_threshold": 0.0},
        {"act_fn": "topk", "jump_relu_threshold": 0.0},
        {"norm_activation": "inference"},
        {"norm_activation": "token-wise"},
        {"apply_decoder_bias_to_pre_encoder": True},
        {"hook_point_out": OUT, "dataset_average_activation_norm": {"in": 5.1, "out": 0.7}},
    ],
)
def test_2024_follows_the_library(tmp_path, settings, file):
    config = config_2024(**settings)
    w = linear()
    found = one(write_2024(tmp_path, config, w, file))
    x = inputs()
    check(found.load(), x, *theirs_2024(w, config, x))
    assert (found.format, found.inputs) == ("llama-scope", ((3, "resid_post"),))
    assert found.outputs == ((3, "mlp_out" if "hook_point_out" in settings else "resid_post"),)
    plain = "standard" if config["act_fn"] == "relu" else config["act_fn"]
    assert found.architecture == ("transcoder" if "hook_point_out" in settings else plain)


def test_2024_square_and_without_a_decoder_bias(tmp_path):
    config = config_2024(d_sae=D, use_decoder_bias=False)
    w = linear(D, biased=False)
    x = inputs()
    check(one(write_2024(tmp_path, config, w)).load(), x, *theirs_2024(w, config, x))


def test_2024_a_topk_with_a_threshold_is_a_jumprelu(tmp_path):
    config = config_2024(act_fn="topk")
    w = linear()
    sae = one(write_2024(tmp_path, config, w)).load()
    assert (sae.architecture, sae.activation, sae.k) == ("topk", "jumprelu", 3)
    x = inputs()
    check(sae, x, *theirs_2024(w, config | {"act_fn": "jumprelu"}, x))


def test_2024_saelens_agrees_where_decoders_have_length_1_alone():
    golden = expected("llama_scope")
    x, scale = golden["x"], math.sqrt(6) / 3.7  # SAELens keeps activations in units of training
    for name, right in (("Llama3_1-8B-Base-L16R-8x", True), ("Llama3_1-8B-Base-L15R-8x", False)):
        sae = one(FOLDER / "llama_scope" / name).load()
        theirs = golden[f"{name}/acts"]
        if right:
            check(sae, x, theirs / scale, golden[f"{name}/reconstruction"])
        else:
            assert ((acts_of(sae, x) > 0) != (theirs > 0)).any()
        config = json.loads((FOLDER / "llama_scope" / name / "hyperparams.json").read_text())
        assert config["jump_relu_threshold"] * torch.ones(18) == pytest.approx(sae.threshold)


def test_2024_the_repository_says_where_and_of_which_model():
    places = {one.place: one for one in read_dictionaries(str(FOLDER / "llama_scope"))}
    assert list(places) == ["Llama3_1-8B-Base-L15R-8x", "Llama3_1-8B-Base-L16R-8x"]
    found = places["Llama3_1-8B-Base-L16R-8x"]
    assert found.inputs == ((16, "resid_post"),)
    assert found.model == "meta-llama/Llama-3.1-8B"
    json.dumps(found.conventions)


def test_2024_transcoders_read_before_the_gain(tmp_path):
    config = config_2024(hook_point_in="blocks.3.ln2.hook_normalized", hook_point_out=OUT)
    found = one(write_2024(tmp_path, config, linear()))
    assert (found.inputs, found.outputs) == (((3, "mlp_norm"),), ((3, "mlp_out"),))


# 2025 and later


def config(**settings):
    known = {
        "sae_type": "sae",
        "hook_point_in": HOOK,
        "hook_point_out": HOOK,
        "d_model": D,
        "expansion_factor": N / D,
        "act_fn": "jumprelu",
        "top_k": 3,
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": True,
        "use_decoder_bias": True,
        "use_glu_encoder": False,
    }
    return known | settings


def renamed(w, settings):
    """The same weights by the names of now, with thresholds and norms."""
    log = torch.linspace(-2, 0.7, len(w["encoder.bias"]))
    tensors = {
        "W_E": w["encoder.weight"].T.contiguous(),
        "b_E": w["encoder.bias"],
        "W_D": w["decoder.weight"].T.contiguous(),
        f"dataset_average_activation_norm.{HOOK}": torch.tensor(5.1),
        f"dataset_average_activation_norm.{OUT}": torch.tensor(0.7),
    }
    if "decoder.bias" in w:
        tensors["b_D"] = w["decoder.bias"]
    if settings["act_fn"] == "jumprelu":
        tensors["activation_function.log_jumprelu_threshold"] = log
    return tensors


def write_now(folder, settings, tensors, file="sae_weights.safetensors"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    if file.endswith(".pt"):
        write(folder / file, {}, sae=tensors, version="2")
    else:
        write(folder / file, tensors)
    return folder


def theirs(t, settings, x):
    """Activations, reconstructions, and the lengths of decoder rows by which TopK chooses."""
    read, written = settings["hook_point_in"], settings["hook_point_out"]
    s_in = s_out = 1.0
    if settings["norm_activation"] == "dataset-wise":
        norms = {hook: t[f"dataset_average_activation_norm.{hook}"] for hook in (read, written)}
        s_in, s_out = math.sqrt(D) / norms[read], math.sqrt(D) / norms[written]
    elif settings["norm_activation"] == "token-wise":
        s_in = s_out = math.sqrt(D) / x.norm(dim=1, keepdim=True)
    pre = (x * s_in) @ t["W_E"] + t["b_E"]
    norm = t["W_D"].norm(dim=1) if settings["sparsity_include_decoder_norm"] else torch.ones(())
    name = "activation_function.log_jumprelu_threshold"
    threshold = t[name].exp() if name in t else None
    acts = kept(pre, pre * norm, settings["act_fn"], settings["top_k"], threshold)
    return acts, (acts @ t["W_D"] + t.get("b_D", 0)) / s_out, norm


@pytest.mark.parametrize("file", ["sae_weights.safetensors", "checkpoints/final.pt"])
@pytest.mark.parametrize("by_norm", [True, False])
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"act_fn": "relu"},
        {"act_fn": "topk"},
        {"norm_activation": "inference"},
        {"norm_activation": "token-wise"},
        {"hook_point_out": OUT},
        {"use_decoder_bias": False},
        {"expansion_factor": 1},
    ],
)
def test_now_follows_the_library(tmp_path, changed, by_norm, file):
    settings = config(**changed, sparsity_include_decoder_norm=by_norm)
    n = int(D * settings["expansion_factor"])
    tensors = renamed(linear(n, biased=settings["use_decoder_bias"]), settings)
    found = one(write_now(tmp_path, settings, tensors, file))
    x = inputs()
    acts, reconstruction, norm = theirs(tensors, settings, x)
    if by_norm and settings["act_fn"] == "topk":
        acts = acts * norm
        assert any("times the length" in note for note in found.conventions["notes"])
    check(found.load(), x, acts, reconstruction)
    assert (found.format, found.d_sae) == ("llamascopium", n)
    assert found.outputs == ((3, "mlp_out" if "hook_point_out" in changed else "resid_post"),)


def test_now_batchtopk_keeps_k_of_each_input_and_says_so(tmp_path):
    settings = config(act_fn="batchtopk", sparsity_include_decoder_norm=False)
    tensors = renamed(linear(), settings)
    found = one(write_now(tmp_path, settings, tensors))
    assert any("of a batch" in note for note in found.conventions["notes"])
    x = inputs()
    acts, reconstruction, _ = theirs(tensors, settings | {"act_fn": "topk"}, x)
    check(found.load(), x, acts, reconstruction)
    assert found.load().architecture == "batchtopk"


def test_r1_distill_is_as_saelens_reads_it():
    golden = expected("llama_scope_r1")
    name = "800M-Slimpajama-0-OpenR1-Math-220k/L5R"
    found = one(FOLDER / "llama_scope_r1")
    assert (found.place, found.inputs) == (name, ((5, "resid_post"),))
    check(found.load(), golden["x"], golden[f"{name}/acts"], golden[f"{name}/reconstruction"])


# Files that cannot be read


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"use_glu_encoder": True}, "GLU encoder"),
        ({"norm_activation": "batch-wise"}, "'batch-wise'"),
        ({"act_fn": "prolu"}, "'prolu'"),
        ({"jump_relu_threshold": -0.1}, "below 0"),
        ({"d_sae": N + 1}, "has the shape"),
        ({"dataset_average_activation_norm": {"in": 0, "out": 1.0}}, "average norm"),
        ({"dataset_average_activation_norm": None}, "average norm"),
        ({"sparsity_include_decoder_norm": "yes"}, "sparsity_include_decoder_norm"),
        ({"norm_activation": "token-wise", "hook_point_out": OUT}, "their own norms"),
        (
            {
                "apply_decoder_bias_to_pre_encoder": True,
                "dataset_average_activation_norm": {"in": 1.0, "out": 2.0},
            },
            "contradicts itself",
        ),
        ({"act_fn": "topk", "jump_relu_threshold": 0.0, "top_k": N + 1}, "cannot be"),
    ],
)
def test_2024_settings_that_do_not_fit_are_told(tmp_path, changed, says):
    folder = write_2024(tmp_path, config_2024(**changed), linear())
    with pytest.raises(BadInput, match=says):
        one(folder).load()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"use_glu_encoder": True}, "GLU encoder"),
        ({"sae_type": "crosscoder"}, "'crosscoder'"),
        ({"sae_type": "clt"}, "'clt'"),
        ({"act_fn": "layertopk"}, "'layertopk'"),
        ({"norm_activation": "batch-wise"}, "'batch-wise'"),
        ({"expansion_factor": 3}, "has the shape"),
        ({"hook_point_in": "blocks.4.hook_resid_post"}, "average norm"),
        ({"act_fn": "topk"}, "also has activation_function"),
    ],
)
def test_settings_of_now_that_do_not_fit_are_told(tmp_path, changed, says):
    tensors = renamed(linear(), config())
    with pytest.raises(BadInput, match=says):
        one(write_now(tmp_path, config(**changed), tensors)).load()


def test_glu_weights_without_a_word_of_them_are_told(tmp_path):
    tensors = renamed(linear(), config()) | {"W_E_glu": torch.zeros(D, N)}
    with pytest.raises(BadInput, match="also has W_E_glu"):
        one(write_now(tmp_path, config(), tensors)).load()


def test_distributed_missing_and_malicious_weights_are_told(tmp_path):
    folder = write_now(tmp_path, config(), renamed(linear(), config()))
    (folder / "sae_weights.safetensors").unlink()
    with pytest.raises(BadInput, match="has no weights"):
        one(folder).load()
    (folder / "sae_weights.dcp").mkdir()
    with pytest.raises(BadInput, match=r"distributed checkpoint"):
        one(folder).load()
    witness = tmp_path / "witness"
    write(folder / "sae_weights.pt", {}, sae={"W_E": Runs(witness)})
    with pytest.raises(BadInput, match="could run code"):
        one(folder).load()
    assert not witness.exists()
    write(folder / "sae_weights.pt", {"W_E": torch.zeros(D, N)})
    with pytest.raises(BadInput, match="under 'sae'"):
        one(folder).load()


def test_nan_is_told(tmp_path):
    tensors = renamed(linear(), config())
    tensors["W_D"][0, 0] = torch.nan
    with pytest.raises(BadInput, match="not finite"):
        one(write_now(tmp_path, config(), tensors)).load()
