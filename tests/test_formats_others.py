"""Qwen Scope, Goodfire and circuit-tracer; and that detection never fails but by BadInput."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas.errors import BadInput
from atlas.ingest.importing.formats import FORMATS, read_dictionaries
from tests.published import FOLDER, Runs, acts_of, check, expected, one, write

D, N = 8, 12
QWEN = "SAE-Res-Qwen3-1.7B-Base-W32K-L0_3"


def weights(n=N, d_out=D, seed=0):
    """W_enc (n, d), b_enc, W_dec (n, d_out) and b_dec."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    return {
        "W_enc": 0.5 * normal(n, D),
        "b_enc": 0.4 * normal(n),
        "W_dec": normal(n, d_out),
        "b_dec": normal(d_out),
    }


def inputs(rows=30, seed=5):
    return 0.5 + 2 * torch.randn(rows, D, generator=torch.Generator().manual_seed(seed))


# Qwen Scope


def test_qwen_scope_is_as_saelens_reads_it():
    golden = expected("qwen_scope")
    found = one(FOLDER / "qwen_scope")
    assert found.model == "Qwen/Qwen3-1.7B-Base"
    assert found.inputs == found.outputs == ((0, "resid_post"),)
    assert found.declared == {"l0": 3.0}
    check(found.load(), golden["x"], golden[f"{QWEN}/acts"], golden[f"{QWEN}/reconstruction"])


def test_qwen_scope_follows_the_model_card(tmp_path):
    w = weights()
    path = tmp_path / QWEN / "layer12.sae.pt"
    write(path, w | {"W_dec": w["W_dec"].T.contiguous()})
    x = inputs()
    pre = x @ w["W_enc"].T + w["b_enc"]
    top = pre.topk(3, dim=1)
    assert (top.values > 0).all(), (
        "without a ReLU, which an input of fewer positive ones would show"
    )
    acts = torch.zeros_like(pre).scatter(1, top.indices, top.values)
    for source in (path, path.parent, tmp_path):
        found = one(source)
        check(found.load(), x, acts, acts @ w["W_dec"] + w["b_dec"])
        assert (found.inputs, found.d_sae) == (((12, "resid_post"),), N)


def test_qwen_scope_without_its_name_or_of_other_shapes_is_told(tmp_path):
    w = weights()
    write(tmp_path / "sae" / "layer0.sae.pt", w)
    with pytest.raises(BadInput, match="by the name of its repository"):
        one(tmp_path / "sae")
    write(tmp_path / QWEN / "layer0.sae.pt", w)  # W_dec the wrong way round
    with pytest.raises(BadInput, match="has the shape"):
        one(tmp_path / QWEN).load()
    write(tmp_path / QWEN.replace("L0_3", "L0_100") / "layer0.sae.pt", w)
    with pytest.raises(BadInput, match="cannot be"):
        one(tmp_path / QWEN.replace("L0_3", "L0_100"))


# Goodfire


def test_goodfire_is_as_saelens_reads_it():
    golden, name = expected("goodfire"), "Llama-3.1-8B-Instruct-SAE-l19"
    found = one(FOLDER / "goodfire")
    assert found.model == "Llama-3.1-8B-Instruct"
    assert found.inputs == found.outputs == ((19, "resid_post"),)
    check(found.load(), golden["x"], golden[f"{name}/acts"], golden[f"{name}/reconstruction"])


def goodfire(n=N, dtype=torch.float32):
    w = {name: tensor.to(dtype) for name, tensor in weights(n).items()}
    return {
        "encoder_linear.weight": w["W_enc"],
        "encoder_linear.bias": w["b_enc"],
        "decoder_linear.weight": w["W_dec"].T.contiguous(),
        "decoder_linear.bias": w["b_dec"],
    }


@pytest.mark.parametrize("n", [N, D])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_goodfire_follows_the_model_card(tmp_path, n, dtype):
    w = goodfire(n, dtype)
    found = one(write(tmp_path / "Llama-3.3-70B-Instruct-SAE-l50.pt", w))
    assert found.inputs == ((50, "resid_post"),)
    w, x = {name: tensor.float() for name, tensor in w.items()}, inputs()
    acts = (x @ w["encoder_linear.weight"].T + w["encoder_linear.bias"]).relu()
    reconstruction = acts @ w["decoder_linear.weight"].T + w["decoder_linear.bias"]
    check(found.load(), x, acts, reconstruction)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: w.pop("decoder_linear.bias"), r"has no 'decoder_linear\.bias'"),
        (lambda w: w.update({"decoder_linear.weight": torch.zeros(N, D)}), "has the shape"),
        (lambda w: w["encoder_linear.bias"].fill_(torch.nan), "not finite"),
        (lambda w: w.update(threshold=torch.zeros(N)), "also has threshold"),
    ],
)
def test_goodfire_that_does_not_fit_is_told(tmp_path, change, says):
    w = goodfire()
    change(w)
    path = write(tmp_path / "sae.pth", w)
    with pytest.raises(BadInput, match=says):
        one(path).load()


def test_a_file_of_another_name_is_goodfires_without_a_place(tmp_path):
    found = one(write(tmp_path / "sae.pth", goodfire()))
    assert found.inputs is None
    assert "name alone" in found.conventions["notes"][0]


# circuit-tracer


def configure(folder, **values):
    folder.mkdir(parents=True, exist_ok=True)
    known = {
        "model_name": "google/gemma-2-2b",
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "hook_mlp_out",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(known | values))


def test_transcoders_are_as_saelens_reads_them():
    golden = expected("circuit_tracer")
    folder = FOLDER / "circuit_tracer" / "transcoders"
    for layer, found in enumerate(read_dictionaries(str(folder))):
        assert (found.model, found.architecture) == ("Qwen/Qwen3-0.6B", "transcoder")
        assert found.inputs == ((layer, "mlp_in"),)
        assert found.outputs == ((layer, "mlp_out"),)
        name = f"transcoders/{found.place}"
        check(found.load(), golden["x"], golden[f"{name}/acts"], golden[f"{name}/reconstruction"])


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("n", [N, D])
@pytest.mark.parametrize("kind", ["relu", "jumprelu", "topk in the file", "topk in config.yaml"])
def test_a_transcoder_follows_the_library(tmp_path, kind, skip, n):
    """circuit-tracer 4bb8c0e, `SingleLayerTranscoder`."""
    w, x = weights(n), inputs()
    pre = x @ w["W_enc"].T + w["b_enc"]
    acts, config = pre.relu(), {}
    if kind == "jumprelu":
        threshold = torch.linspace(0.1, 1.5, n)
        w["activation_function.threshold"] = threshold
        acts = pre * (pre > threshold)
    elif kind.startswith("topk"):
        top = pre.topk(3, dim=1)
        acts = torch.zeros_like(pre).scatter(1, top.indices, top.values).relu()
        if "file" in kind:
            w["k"] = torch.tensor(3)
        else:
            config = {"activation": "topk", "k": 3}
    reconstruction = acts @ w["W_dec"] + w["b_dec"]
    if skip:
        w["W_skip"] = torch.randn(D, D, generator=torch.Generator().manual_seed(3))
        reconstruction = reconstruction + x @ w["W_skip"].T
    configure(tmp_path, **config)
    write(tmp_path / "layer_4.safetensors", w)
    found = one(tmp_path)
    check(found.load(), x, acts, reconstruction)
    assert found.architecture == ("skip-transcoder" if skip else "transcoder")
    assert found.inputs == ((4, "mlp_in"),)
    json.dumps(found.conventions)


@pytest.mark.parametrize("jump", [False, True])
def test_layers_of_a_cross_layer_transcoder_add_up_to_it(tmp_path, jump):
    """circuit-tracer 4bb8c0e, `CrossLayerTranscoder`: encode, and decode of all layers."""
    n_layers, rows = 3, 30
    configure(tmp_path, model_kind="cross_layer_transcoder", feature_input_hook="hook_resid_mid")
    xs = [inputs(rows, seed=layer) for layer in range(n_layers)]
    acts, total = [], torch.zeros(n_layers, rows, D)
    for layer, x in enumerate(xs):
        w = weights(seed=layer)
        W_dec = torch.randn(N, n_layers - layer, D, generator=torch.Generator().manual_seed(layer))
        pre = x @ w["W_enc"].T + w["b_enc"]
        threshold = torch.linspace(0.1, 1, N)
        acts.append(pre * (pre > threshold) if jump else pre.relu())
        total[layer:] += torch.einsum("bf,fld->lbd", acts[-1], W_dec)
        total[layer] += w["b_dec"]
        encoder = {f"{name}_{layer}": w[name] for name in ("W_enc", "b_enc", "b_dec")}
        if jump:
            encoder[f"threshold_{layer}"] = threshold
        write(tmp_path / f"W_enc_{layer}.safetensors", encoder)
        write(tmp_path / f"W_dec_{layer}.safetensors", {f"W_dec_{layer}": W_dec})
    added = torch.zeros_like(total)
    for layer, found in enumerate(read_dictionaries(str(tmp_path))):
        assert found.inputs == ((layer, "resid_mid"),)
        assert found.outputs == tuple((j, "mlp_out") for j in range(layer, n_layers))
        assert (found.d_in, found.d_sae, found.d_out) == (D, N, D * (n_layers - layer))
        sae = found.load()
        check(sae, xs[layer], acts[layer])
        outputs = sae.decode(sae.encode(xs[layer]), xs[layer])
        added[layer:] += outputs.view(rows, n_layers - layer, D).transpose(0, 1)
    torch.testing.assert_close(added, total, rtol=1e-5, atol=1e-5)


def test_codes_of_a_cross_layer_transcoder_are_as_saelens_reads_them():
    golden = expected("circuit_tracer")
    for layer, found in enumerate(read_dictionaries(str(FOLDER / "circuit_tracer" / "clt"))):
        torch.testing.assert_close(
            acts_of(found.load(), golden["x"]), golden[f"clt/{layer}/acts"], rtol=1e-5, atol=1e-5
        )


def test_hooks_that_are_not_known_are_left_to_the_user(tmp_path):
    configure(tmp_path, feature_input_hook="ln2.hook_scale", feature_output_hook=None)
    write(tmp_path / "layer_0.safetensors", weights())
    found = one(tmp_path)
    assert found.inputs is None
    assert found.outputs is None
    assert "ln2.hook_scale" in found.conventions["notes"][-1]


def test_a_transcoder_alone_is_not_guessed_to_be_a_relu(tmp_path):
    write(tmp_path / "layer_0.safetensors", weights())
    with pytest.raises(BadInput, match=r"get the config\.yaml"):
        one(tmp_path)
    write(tmp_path / "layer_0.safetensors", weights() | {"k": torch.tensor(3)})
    assert one(tmp_path).load().k == 3


@pytest.mark.parametrize(
    ("config", "changed", "says"),
    [
        ({"activation": "gelu"}, {}, "'gelu'"),
        ({"activation": "topk"}, {}, "k = None"),
        ({"activation": "topk", "k": N + 1}, {}, "cannot be"),
        ({"activation": "jump_relu"}, {}, r"no 'activation_function\.threshold'"),
        ({}, {"activation_function.threshold": -torch.ones(N)}, "below 0"),
        ({}, {"W_skip": torch.zeros(D, D + 1)}, "has the shape"),
        ({}, {"scale": torch.zeros(1)}, "also has scale"),
        ({}, {"W_enc": torch.zeros(D, N)}, "has the shape"),
    ],
)
def test_transcoders_that_do_not_fit_are_told(tmp_path, config, changed, says):
    configure(tmp_path, **config)
    write(tmp_path / "layer_0.safetensors", weights() | changed)
    with pytest.raises(BadInput, match=says):
        one(tmp_path).load()


def test_a_repository_that_only_names_others_says_which(tmp_path):
    files = ["hf://google/gemma-scope-2b-pt-transcoders/layer_0/width_16k/params.npz?revision=main"]
    configure(tmp_path, model_kind="transcoder_set", transcoders=files)
    with pytest.raises(BadInput, match=r"2b-pt-transcoders:layer_0/width_16k/params\.npz"):
        one(tmp_path)


def test_damaged_files_are_told(tmp_path):
    configure(tmp_path)
    path = write(tmp_path / "layer_0.safetensors", weights())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(BadInput, match="cannot be read"):
        one(tmp_path)
    write(path, weights())
    (tmp_path / "config.yaml").write_text("a: [b")
    with pytest.raises(BadInput, match="as YAML"):
        one(tmp_path)
    (tmp_path / "config.yaml").unlink()
    write(tmp_path / "W_enc_0.safetensors", {"W_enc_0": torch.zeros(N, D)})
    with pytest.raises(BadInput, match="W_dec_0"):
        one(tmp_path / "W_enc_0.safetensors")


# Anything else

NAMES = ["cfg.json", "config.json", "hyperparams.json", "config.yaml", "lm_config.json"]
KEYS = [
    "architecture",
    "trainer",
    "buffer",
    "dict_class",
    "activation_dim",
    "dict_size",
    "sae_type",
    "hook_point_in",
    "hook_point_out",
    "d_model",
    "d_sae",
    "expansion_factor",
    "act_fn",
    "top_k",
    "norm_activation",
    "sparsity_include_decoder_norm",
    "model_kind",
    "transcoders",
    "activation",
    "k",
    "layer",
]
WORDS = ["AutoEncoder", "sae", "topk", "jumprelu", "blocks.0.hook_resid_post", "dataset-wise", ""]
TENSORS = ["W_enc", "b_enc", "W_dec", "b_dec", "encoder.weight", "encoder.bias", "decoder.weight"]
TENSORS += ["pre_bias", "latent_bias", "encoder_linear.weight", "W_E", "b_E", "W_enc_0", "k"]
FILES = ["ae.pt", "0.pt", "layer0.sae.pt", "sae_weights.safetensors", "sae_weights.pt"]
FILES += ["layer_0.safetensors", "W_enc_0.safetensors", "sae.safetensors", "params.safetensors"]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 10**20)
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=8,
)
configurations = st.dictionaries(st.sampled_from(KEYS), values, max_size=8) | values
tensors = st.dictionaries(
    st.sampled_from(TENSORS),
    st.lists(st.integers(0, 3), max_size=3).map(lambda shape: torch.zeros(shape)),
    max_size=6,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    configs=st.dictionaries(st.sampled_from(NAMES), configurations, min_size=1, max_size=2),
    files=st.dictionaries(st.sampled_from(FILES), tensors, max_size=2),
    format=st.sampled_from(["auto", *FORMATS]),
)
def test_random_files_are_read_or_told(tmp_path_factory, configs, files, format):
    folder = tmp_path_factory.mktemp("random") / QWEN
    folder.mkdir()
    for name, value in configs.items():
        text = yaml.safe_dump(value) if name.endswith("yaml") else json.dumps(value)
        (folder / name).write_text(text)
    for name, contents in files.items():
        write(folder / name, contents)
    try:
        found = read_dictionaries(str(folder), format)
    except BadInput as error:
        assert str(error).count("\n") == 0
        return
    for dictionary in found:
        json.dumps(dictionary.conventions, allow_nan=False)
        try:
            sae = dictionary.load()
        except BadInput:
            continue
        assert (sae.d_in, sae.d_sae, sae.d_out) == (
            dictionary.d_in,
            dictionary.d_sae,
            dictionary.d_out,
        )


CONFIGURATIONS = [
    path
    for format in ("dictionary_learning", "llama_scope", "llama_scope_r1", "circuit_tracer")
    for path in sorted((FOLDER / format).rglob("*"))
    if path.name in ("config.json", "hyperparams.json", "config.yaml", "lm_config.json")
]


def entries(config):
    """Every dictionary in a configuration, with each of its keys."""
    for key, value in config.items():
        yield config, key
        if isinstance(value, dict):
            yield from entries(value)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    path=st.sampled_from(CONFIGURATIONS),
    where=st.integers(0, 60),
    value=values | st.sampled_from(["resid_post_layer_3", "batchtopk", {"in": 1.0}, 0.5]),
    missing=st.booleans(),
)
def test_published_files_with_one_setting_changed_are_read_or_told(
    tmp_path_factory, path, where, value, missing
):
    folder = tmp_path_factory.mktemp("changed") / path.parent.name
    shutil.copytree(path.parent, folder)
    config = yaml.safe_load(path.read_text())
    places = list(entries(config))
    inside, key = places[where % len(places)]
    if missing:
        del inside[key]
    else:
        inside[key] = value
    text = yaml.safe_dump(config) if path.suffix == ".yaml" else json.dumps(config)
    (folder / path.name).write_text(text)
    try:
        for found in read_dictionaries(str(folder)):
            json.dumps([found.conventions, found.declared], allow_nan=False)
            sae = found.load()
            assert (sae.d_in, sae.d_sae, sae.d_out) == (found.d_in, found.d_sae, found.d_out)
            assert sae.architecture == found.architecture
    except BadInput as error:
        assert "\n" not in str(error)


def test_a_malicious_file_alone_is_told_and_not_run(tmp_path):
    witness = tmp_path / "witness"
    for name in ("anything.pt", "model.pth", f"{QWEN}/layer0.sae.pt"):
        path = write(tmp_path / name, {"W_enc": torch.zeros(2, 2)}, extra=Runs(witness))
        with pytest.raises(BadInput, match="could run code"):
            read_dictionaries(str(path))
    assert not witness.exists()
